PRAGMA application_id = 1650549610;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE campaign (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        document TEXT NOT NULL,
        sha256 TEXT NOT NULL
    );
INSERT INTO "campaign" VALUES(1,'{"accept_timing":false,"arms":[{"build_id":3133465601,"built_clock_hz":187500000.0,"macs":378176,"marks":[],"model":"digits_cnn","model_bytes":11624,"model_path":"bac.safetensors","model_sha256":"6d4333ca555077956cf53e8cad10f4d6a80000f2c5ae33584ebe16a9945539b0","n_weights":9680,"name":"bac","overlay":"bac-pot4e4","overlay_sha256":"366cc8f98df6db286fc417daa423c4eb4b44142400f3362a8373138e610ad0a2","product":"bac","resources":{"BRAM36":233.5,"DSP":69.0,"FF":19938.0,"LUT":24456.0,"URAM":64.0},"resources_source":"estimate: Yosys 0.70 synth_xilinx -family xcup, whole accelerator without DMA and interconnect; LUT: sites after pairing, UltraRAM by size; the array alone: 9456 LUT, 5264 FF; no Vivado build yet","scheme":"pot-4e4","sparsity":0.060950413223140494,"weight_bits":4},{"build_id":985923585,"built_clock_hz":187500000.0,"macs":378176,"marks":[],"model":"digits_cnn","model_bytes":11640,"model_path":"mac.safetensors","model_sha256":"f7a810be8444497351cd0bff8179c57d3528298d19a8ac06fabe350f25eb1f51","n_weights":9680,"name":"mac","overlay":"mac-uniform4","overlay_sha256":"95f83b0335193e1b14854a2ce386858b82159cf7c256c42cc228806a982d2a21","product":"mac","resources":{"BRAM36":233.5,"DSP":69.0,"FF":19906.0,"LUT":26344.0,"URAM":64.0},"resources_source":"estimate: Yosys 0.70 synth_xilinx -family xcup, whole accelerator without DMA and interconnect; LUT: sites after pairing, UltraRAM by size; the array alone: 11232 LUT, 5088 FF; no Vivado build yet","scheme":"uniform-4","sparsity":0.12913223140495866,"weight_bits":4}],"board":"made up","cells":[{"batch_images":16,"clock_hz":null,"index":0},{"batch_images":32,"clock_hz":null,"index":1}],"created_wall_ns":1000000000000000000,"design":{"aa_blocks":2,"guard_s":0.5,"idle_s":5.0,"max_blocks":5,"pilot_blocks":3,"run_s":10.0,"sample_period_s":0.02,"seed":0,"settle_s":1.0,"target_half_width":0.01,"warm_up_s":1.0},"device":"functional:","images_sha256":"1406ed4ddc02e50088a1295a71c8c4d409028c05465c8d73106ebc152195bf87","images_source":"digits_calibration.npz","ledgers":[[{"a":"bac","b":"mac","item":"product term","kind":"arithmetic","note":""},{"a":"pot-4e4","b":"uniform-4","item":"weight levels","kind":"arithmetic","note":""},{"a":"4","b":"4","item":"weight bits","kind":"same","note":"fewer bits save weight memory and traffic whatever the product term is"},{"a":"8","b":"8","item":"activation bits","kind":"same","note":""},{"a":"16 x 16","b":"16 x 16","item":"lanes","kind":"same","note":""},{"a":"64","b":"64","item":"pixel tile","kind":"same","note":""},{"a":"16 x 16","b":"16 x 16","item":"skipped group","kind":"same","note":""},{"a":"187.5","b":"187.5","item":"clock (MHz)","kind":"same","note":""},{"a":"16","b":"16","item":"stream beat (bytes)","kind":"same","note":""},{"a":"524288","b":"524288","item":"activation buffer (bytes)","kind":"same","note":""},{"a":"2097152","b":"2097152","item":"weight buffer (bytes)","kind":"same","note":""},{"a":"294912","b":"294912","item":"constant buffer (bytes)","kind":"same","note":""},{"a":"256","b":"256","item":"descriptors","kind":"same","note":""},{"a":"accelerator-v2","b":"accelerator-v2","item":"register map","kind":"same","note":""},{"a":"2","b":"2","item":"ABI","kind":"same","note":""},{"a":"ZCU104","b":"ZCU104","item":"board","kind":"same","note":""},{"a":"xczu7ev-ffvc1156-2-e","b":"xczu7ev-ffvc1156-2-e","item":"part","kind":"same","note":""},{"a":"estimate","b":"estimate","item":"resources known by","kind":"same","note":"an estimate and a build do not compare"},{"a":"24456","b":"26344","item":"LUT","kind":"arithmetic","note":"estimate: Yosys 0.70 synth_xilinx -family xcup"},{"a":"19938","b":"19906","item":"FF","kind":"arithmetic","note":"estimate: Yosys 0.70 synth_xilinx -family xcup"},{"a":"69","b":"69","item":"DSP","kind":"same","note":"estimate: Yosys 0.70 synth_xilinx -family xcup"},{"a":"233.5","b":"233.5","item":"BRAM36","kind":"same","note":"estimate: Yosys 0.70 synth_xilinx -family xcup"},{"a":"64","b":"64","item":"URAM","kind":"same","note":"estimate: Yosys 0.70 synth_xilinx -family xcup"},{"a":"7 layers, 9,680 weights","b":"7 layers, 9,680 weights","item":"model: layers and shapes","kind":"same","note":""},{"a":"pot-4e4","b":"uniform-4","item":"model: schemes","kind":"arithmetic","note":""},{"a":"4","b":"4","item":"model: weight bits","kind":"same","note":"fewer bits save weight memory and traffic whatever the product is"},{"a":"8","b":"8","item":"model: activation bits","kind":"same","note":""},{"a":"6.1%","b":"12.9%","item":"model: zero weights","kind":"confound","note":"zero weights save energy in either arm"}]],"limits":{"die_step_c":0.5,"fixed_governors":["performance","powersave","userspace"],"guard_filter_taus":5.0,"idle_change_sigmas":4.0,"lag_sigmas":4.0,"max_centres_apart":0.5,"max_clock_share":0.001,"max_cpu_hz_share":0.001,"max_die_apart_c":3.0,"max_die_c":85.0,"max_die_slope_c_per_min":0.5,"max_disk_written_bytes":0,"max_edge_share":0.0025,"max_foreign_cpu":0.02,"max_full_scale_share":0.9,"max_gap_periods":5.0,"max_gap_share":0.01,"max_idle_change_dynamic":0.1,"max_idle_change_share":0.02,"max_invalid_apart":0.05,"max_invalid_share":0.05,"max_lag1_errors":2.0,"max_lag_change_share":0.5,"max_mad_score":5.0,"max_read_error_share":0.001,"max_reanalysis_share":1e-12,"max_register_steps":0.25,"max_sampler_cpu":0.05,"max_sampler_cpu_apart":0.01,"max_step_to_t":0.5,"max_supply_change_share":0.005,"max_supply_share":0.03,"max_time_cv":0.01,"max_voltage_share":0.1,"max_wall_rate":0.0005,"max_wall_step_s":0.05,"min_ambient_c":20.0,"min_blocks":10,"min_complete_share":0.98,"min_dynamic_u":5.0,"min_fresh_values":200,"min_noise_to_step":0.5,"min_order_p":0.01,"min_refresh_changes":16,"min_run_s":10.0,"min_step_sigmas":3.0,"run_short_share":0.01,"slow_refresh_guard":1.1,"slow_refresh_run_s":60.0,"slow_refresh_s":0.5,"stuck_noise_steps":0.25,"stuck_probability":1e-06,"stuck_refreshes":10,"stuck_samples":20},"made_with":{"bacmac":"0.1.0"},"n_images":256,"name":"durability","pairs":[{"denominator":"bac","numerator":"mac","question":"shift"}],"rail_names":[],"rails":"emulated:","sha256":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","text":""}','dd401d96bb03a11331102bd2a95f548d21df4e37615714d6d5deae49a923887d');
CREATE TABLE cell (cell INTEGER PRIMARY KEY, main_blocks INTEGER);
INSERT INTO "cell" VALUES(0,NULL);
INSERT INTO "cell" VALUES(1,NULL);
CREATE TABLE finding (
        id INTEGER PRIMARY KEY,
        check_number INTEGER NOT NULL,
        level TEXT NOT NULL CHECK (level IN ('invalidate', 'warn', 'abort')),
        subject TEXT NOT NULL,
        text TEXT NOT NULL,
        cell INTEGER,
        stage TEXT,
        block INTEGER,
        attempt INTEGER,
        position INTEGER,
        arm TEXT
    );
INSERT INTO "finding" VALUES(1,7,'warn','INT','the step covers the noise',0,'aa',0,0,0,'bac');
INSERT INTO "finding" VALUES(2,7,'warn','INT','the step covers the noise',0,'aa',0,0,1,'bac');
CREATE TABLE planned_order (
        cell INTEGER NOT NULL REFERENCES cell,
        stage TEXT NOT NULL CHECK (stage IN ('aa', 'main')),
        block INTEGER NOT NULL,
        position INTEGER NOT NULL,
        arm TEXT NOT NULL,
        PRIMARY KEY (cell, stage, block, position),
        UNIQUE (cell, stage, block, position, arm)
    );
INSERT INTO "planned_order" VALUES(0,'aa',0,0,'bac');
INSERT INTO "planned_order" VALUES(0,'aa',0,1,'bac');
INSERT INTO "planned_order" VALUES(0,'aa',1,0,'bac');
INSERT INTO "planned_order" VALUES(0,'aa',1,1,'bac');
INSERT INTO "planned_order" VALUES(0,'main',0,0,'mac');
INSERT INTO "planned_order" VALUES(0,'main',0,1,'bac');
INSERT INTO "planned_order" VALUES(0,'main',1,0,'bac');
INSERT INTO "planned_order" VALUES(0,'main',1,1,'mac');
INSERT INTO "planned_order" VALUES(0,'main',2,0,'mac');
INSERT INTO "planned_order" VALUES(0,'main',2,1,'bac');
INSERT INTO "planned_order" VALUES(0,'main',3,0,'bac');
INSERT INTO "planned_order" VALUES(0,'main',3,1,'mac');
INSERT INTO "planned_order" VALUES(0,'main',4,0,'mac');
INSERT INTO "planned_order" VALUES(0,'main',4,1,'bac');
INSERT INTO "planned_order" VALUES(1,'aa',0,0,'bac');
INSERT INTO "planned_order" VALUES(1,'aa',0,1,'bac');
INSERT INTO "planned_order" VALUES(1,'aa',1,0,'bac');
INSERT INTO "planned_order" VALUES(1,'aa',1,1,'bac');
INSERT INTO "planned_order" VALUES(1,'main',0,0,'mac');
INSERT INTO "planned_order" VALUES(1,'main',0,1,'bac');
INSERT INTO "planned_order" VALUES(1,'main',1,0,'bac');
INSERT INTO "planned_order" VALUES(1,'main',1,1,'mac');
INSERT INTO "planned_order" VALUES(1,'main',2,0,'bac');
INSERT INTO "planned_order" VALUES(1,'main',2,1,'mac');
INSERT INTO "planned_order" VALUES(1,'main',3,0,'mac');
INSERT INTO "planned_order" VALUES(1,'main',3,1,'bac');
INSERT INTO "planned_order" VALUES(1,'main',4,0,'bac');
INSERT INTO "planned_order" VALUES(1,'main',4,1,'mac');
CREATE TABLE rail (id INTEGER PRIMARY KEY, document TEXT NOT NULL UNIQUE);
INSERT INTO "rail" VALUES(1,'{"current_step_a":0.125,"feeds":"","filter_tau_s":null,"gain_error":null,"instrument":"IRPS5401","max_current_a":30.0,"name":"INT","nominal_v":0.85,"offset_a":null,"power_step_w":0.25,"sees_logic":true,"shunt_error":null,"update_period_ns":null}');
INSERT INTO "rail" VALUES(2,'{"current_step_a":0.001,"feeds":"","filter_tau_s":null,"gain_error":0.001,"instrument":"INA226","max_current_a":30.0,"name":"12V","nominal_v":12.0,"offset_a":0.002,"power_step_w":0.025,"sees_logic":true,"shunt_error":null,"update_period_ns":35200000}');
CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        cell INTEGER NOT NULL,
        stage TEXT NOT NULL,
        block INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        position INTEGER NOT NULL,
        arm TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('planned', 'running', 'done', 'invalid')),
        reason TEXT NOT NULL DEFAULT '',
        boot_id TEXT,
        begun_wall_ns INTEGER,
        ended_wall_ns INTEGER,
        document TEXT,
        sha256 TEXT,
        UNIQUE (cell, stage, block, attempt, position),
        FOREIGN KEY (cell, stage, block, position, arm)
            REFERENCES planned_order (cell, stage, block, position, arm),
        CHECK ((state = 'invalid') = (reason <> '')),
        CHECK (state <> 'done' OR document IS NOT NULL),
        CHECK (state NOT IN ('planned', 'running') OR document IS NULL),
        CHECK ((document IS NULL) = (sha256 IS NULL))
    );
INSERT INTO "run" VALUES(1,0,'aa',0,0,0,'bac','done','','boot',1,2,'{"record":{"after":{"end_ns":942994775329996,"start_ns":942994735329996},"arm":"bac","before":{"end_ns":942994655329996,"start_ns":942994615329996},"block":0,"clock_hz":33333333.333333332,"counters":{"busy_cycles":100000000,"cycles":1000000000,"images":8000,"products_done":7,"products_isolated":8,"products_skipped":9},"model_sha256":"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b","n_verified":4,"outputs_sha256":"0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c","overlay":"bac-pot4e4","overlay_sha256":"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","position":0,"provenance":"functional","run":{"end_ns":942994735329996,"start_ns":942994655329996},"used":{"end_ns":942994735329996,"start_ns":942994655329997}},"run":{"after":{"ambient_c":null,"boot_id":"b007","build_id":2,"clock_hz":33333333.333333332,"cpu_hz":1200000000.0,"cpu_own_s":null,"cpu_sampler_s":null,"cpu_total_s":1.25,"die_c":{"pl":40.7},"disk_written_bytes":null,"governor":null,"monotonic_ns":942994775329996,"overlay_id":1,"supply_v":{"ps":0.30000000000000004},"throttled":"","wall_ns":1700942994775329996},"before":{"ambient_c":null,"boot_id":"b007","build_id":2,"clock_hz":33333333.333333332,"cpu_hz":1200000000.0,"cpu_own_s":null,"cpu_sampler_s":null,"cpu_total_s":1.25,"die_c":{"pl":40.1},"disk_written_bytes":null,"governor":null,"monotonic_ns":942994615329996,"overlay_id":1,"supply_v":{"ps":0.30000000000000004},"throttled":"","wall_ns":1700942994615329996},"read_errors":0,"requested_images":null,"retries":0,"sampler_share_idle":null,"sampler_share_run":null},"trace":{"emulated":true,"period_ns":20000000,"read_errors":0,"source":"emulated:"}}','78ad6b935aad9bd335f705921e9940bafa85479b472413df8cf57492cbfe7200');
INSERT INTO "run" VALUES(2,0,'aa',0,0,1,'bac','done','','boot',1,2,'{"record":{"after":{"end_ns":677519820118126,"start_ns":677519780118126},"arm":"bac","before":{"end_ns":677519700118126,"start_ns":677519660118126},"block":0,"clock_hz":33333333.333333332,"counters":{"busy_cycles":100000000,"cycles":1000000000,"images":8000,"products_done":7,"products_isolated":8,"products_skipped":9},"model_sha256":"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b","n_verified":4,"outputs_sha256":"0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c","overlay":"bac-pot4e4","overlay_sha256":"0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a","position":1,"provenance":"functional","run":{"end_ns":677519780118126,"start_ns":677519700118126},"used":{"end_ns":677519780118126,"start_ns":677519700118127}},"run":{"after":{"ambient_c":null,"boot_id":"b007","build_id":2,"clock_hz":33333333.333333332,"cpu_hz":1200000000.0,"cpu_own_s":null,"cpu_sampler_s":null,"cpu_total_s":1.25,"die_c":{"pl":40.7},"disk_written_bytes":null,"governor":null,"monotonic_ns":677519820118126,"overlay_id":1,"supply_v":{"ps":0.30000000000000004},"throttled":"","wall_ns":1700677519820118126},"before":{"ambient_c":null,"boot_id":"b007","build_id":2,"clock_hz":33333333.333333332,"cpu_hz":1200000000.0,"cpu_own_s":null,"cpu_sampler_s":null,"cpu_total_s":1.25,"die_c":{"pl":40.1},"disk_written_bytes":null,"governor":null,"monotonic_ns":677519660118126,"overlay_id":1,"supply_v":{"ps":0.30000000000000004},"throttled":"","wall_ns":1700677519660118126},"read_errors":0,"requested_images":null,"retries":0,"sampler_share_idle":null,"sampler_share_run":null},"trace":{"emulated":true,"period_ns":20000000,"read_errors":0,"source":"emulated:"}}','b5e20f2d6718ef7547a534645be6c6a314e3df63233b758ef4a855cf02c1048a');
INSERT INTO "run" VALUES(3,0,'aa',1,0,0,'bac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(4,0,'aa',1,0,1,'bac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(5,0,'main',0,0,0,'mac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(6,0,'main',0,0,1,'bac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(7,0,'main',1,0,0,'bac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(8,0,'main',1,0,1,'mac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(9,0,'main',2,0,0,'mac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(10,0,'main',2,0,1,'bac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(11,1,'aa',0,0,0,'bac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(12,1,'aa',0,0,1,'bac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(13,1,'aa',1,0,0,'bac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(14,1,'aa',1,0,1,'bac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(15,1,'main',0,0,0,'mac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(16,1,'main',0,0,1,'bac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(17,1,'main',1,0,0,'bac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(18,1,'main',1,0,1,'mac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(19,1,'main',2,0,0,'bac','planned','',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "run" VALUES(20,1,'main',2,0,1,'mac','planned','',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE sample (
        run INTEGER NOT NULL REFERENCES run,
        rail INTEGER NOT NULL REFERENCES rail,
        name TEXT NOT NULL,
        data BLOB NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (run, rail, name)
    );
INSERT INTO "sample" VALUES(1,1,'times_ns',X'0104BAEFC60AA659030008000000789CDB7BECC2DF071B4B666F9FCAECFE6B7F4289F66395CDB719191919800800F1B90CD9','aed5bb174741d711974bfa4be9b384d54a8fa3064efe1591a3818db040f86e3c');
INSERT INTO "sample" VALUES(1,1,'voltage_mv',X'0101510300000000000008000000789C6362F8C7C0C8C00800050F0103','cd547e3c454506a5f9419136347889484f76819ed74cc8527cea0c92838baba2');
INSERT INTO "sample" VALUES(1,1,'current_ma',X'0102650400000000000008000000789C6360286760E8646060606460F8C700000C740200','11e77a3fded8d7a5f69a9b2b5d42225a4bd47a8a3aed852cf41159619c4444e2');
INSERT INTO "sample" VALUES(1,1,'power_uw',X'0104F5920E000000000008000000789C3BC57097E1CEA3540E864B0CAC4A2C0C0C40F49B010CFE3300007C3206CE','f5bcc971786a00d466afc19210f7f779eb30ab6b20d734b015da5688a040f633');
INSERT INTO "sample" VALUES(1,2,'times_ns',X'0104E82AE20AA659030008000000789C5B2A1AEBB2E1C813DDE7FC45695C6BC4D67FCDFE1573979191010401B8A80AC1','c5555202fc82b349fcc661aef028fc1678f64a181bbb87c88482111cb711ca38');
INSERT INTO "sample" VALUES(1,2,'voltage_mv',X'0101E12E00000000000008000000789CFBCFC0C8F0FF3F23000C010300','7a4b2455a23c8142373925f88529a59ce0b5ada24ee796da02b37739a7bcae4b');
INSERT INTO "sample" VALUES(1,2,'current_ma',X'01024B0400000000000008000000789CE3FC3089FB57F96F86FF8C0CFFFFFD070035CF07FF','445f6912ab45eaff0a906764cd46f1d934f45b93e832b8d1f130a35944c7f806');
INSERT INTO "sample" VALUES(1,2,'power_uw',X'0104EB3FC9000000000008000000789C011C00E3FF950096ABDFCEF2A112A103E0051901FD4902FEB8FF00FF0000FFFFFFCCB30EC5','128a0557013c17acdba79552fef56cf82ebc6c2bc3a9414f76ae001a5b8d3e8b');
INSERT INTO "sample" VALUES(2,1,'times_ns',X'010427FA94563368020008000000789CDB74649A81E29FF46CB58A45EF94FC15249AAEE7DA2433323232003100B137096E','e34fc5bcf31cb306949386897f0d23c5118578411527bdc6af010414f1ba6289');
INSERT INTO "sample" VALUES(2,1,'voltage_mv',X'0101520300000000000008000000789C63FCC7C0F89FF13F000A040300','6e498258faade3b90be90b94146ae9ff55c3a23be733662a247d2f85abc889cb');
INSERT INTO "sample" VALUES(2,1,'current_ma',X'0102650400000000000008000000789C6360286760E8646060606460F8C700000C740200','11e77a3fded8d7a5f69a9b2b5d42225a4bd47a8a3aed852cf41159619c4444e2');
INSERT INTO "sample" VALUES(2,1,'power_uw',X'01045A970E000000000008000000789C011C00E3FF6536A7DC24BE9B04F7DB05FA28FB00FF0400FFFBFF00FF0000FFFFFFD2F20F8C','a7adb5b4c01a1b2e012fb7a3519cd82449ff18f80a0b736f5e8678421a65cfe1');
INSERT INTO "sample" VALUES(2,2,'times_ns',X'010491CED7563368020008000000789CDBEF3CFF29573FEB841522AF1B7D8AD51C9E28C73C49616464002100B02109B2','4332b7f11e863ec098c6cb6ffa4ee8f9886037d546906f7ddc6d62309cd2264c');
INSERT INTO "sample" VALUES(2,2,'voltage_mv',X'0101DF2E00000000000008000000789C6362F8C7C0C4F01F0006100202','b3ae13f894e6b8fb19b7e48c6c3269fecd3b9fd43a103ddbb9a517a6ea9202ab');
INSERT INTO "sample" VALUES(2,2,'current_ma',X'0102550400000000000008000000789CFBCD32E9336B16DB7F06C6FF0CFF1800305705F7','742f5b026601071c3872135c42ba07faab44a69559ba4c55a5327d3fce17010c');
INSERT INTO "sample" VALUES(2,2,'power_uw',X'01040B0CCB000000000008000000789C736D695B2BAEF5436EF7C479DF968BFC67F0FCCBB095F13F03C37F200400C1CB0CE7','2a11e66f95108548a40f19cb569a1ee317f5b33cc35c052bf5a16f2488d33952');
COMMIT;
