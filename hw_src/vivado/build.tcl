# Build one overlay from its RTL to its bitstream:
#
#     vivado -mode batch -source build.tcl
#
# All that differs between overlays is in settings.tcl beside this file, which `bacmac overlay
# build` writes. Results come to lie in out/, everything else in work/; both are made anew.
#
# Non-project flow in one process (UG892 "Using Non-Project Mode", UG894, UG994 "Creating a Flow in
# Non-Project Mode"): package the RTL as IP (UG1118), draw the block design (UG994), synthesize,
# place, route, write the bitstream (UG904, UG908). Commands are those of UG835. Directives are the
# defaults, for every overlay the same: a comparison of two must not be one of effort.

set here [file dirname [file normalize [info script]]]
source [file join $here settings.tcl]

set OLDEST 2020.2  ;# `exclude_bd_addr_seg -target_address_space`, `assign_bd_address -offset`
set SYSTEM bacmac_system

proc say {text} {
    puts "bacmac: $text"
    flush stdout
}

# ---- the accelerator as IP, with its registers (docs/decisions/0007-building-an-overlay.md)

proc package_accelerator {folder} {
    global here design registers
    create_project package $folder/project -part $design(part)
    add_files -norecurse [glob -directory $here/rtl *.v *.sv *.svh]
    set_property top bacmac [current_fileset]
    update_compile_order -fileset sources_1
    # Interfaces come from the X_INTERFACE attributes of bacmac.v, parameters from its header.
    ipx::package_project -root_dir $folder/ip -vendor bacmac -library ip -taxonomy /UserIP \
        -import_files -set_current true -force
    set core [ipx::current_core]
    set_property name accelerator $core
    set_property version $design(abi).0 $core
    set_property display_name "bacmac accelerator" $core
    set_property description "Streams a quantized CNN: registers, weights, images, outputs" $core

    # The memory map that packaging infers has no registers: put the register table in its place.
    ipx::remove_all_memory_map $core
    set map [ipx::add_memory_map s_axi $core]
    set_property slave_memory_map_ref s_axi [ipx::get_bus_interfaces s_axi -of_objects $core]
    set block [ipx::add_address_block reg0 $map]
    set_property usage register $block
    set_property access read-write $block
    set_property width 32 $block
    set_property range $design(accelerator_bytes) $block
    foreach row $registers {
        add_register $block {*}$row
    }
    ipx::create_xgui_files $core
    ipx::update_checksums $core
    ipx::check_integrity $core
    ipx::save_core $core
    close_project
}

proc add_register {block name offset access description fields} {
    set register [ipx::add_register $name $block]
    set_property description $description $register
    set_property address_offset $offset $register
    set_property size 32 $register
    set_property access $access $register
    foreach row $fields {
        lassign $row field_name lsb width field_description
        set field [ipx::add_field $field_name $register]
        set_property description $field_description $field
        set_property bit_offset $lsb $field
        set_property bit_width $width $field
        set_property access $access $field
    }
}

# ---- the block design

# `get_bd_pins` of a name that is not there warns and returns nothing; this one stops.
proc one {found what} {
    if {[llength $found] != 1} {
        error "found [llength $found] of $what, expected 1: has this Vivado another form of the IP?"
    }
    return [lindex $found 0]
}
proc pin {name} { return [one [get_bd_pins -quiet $name] "pin $name"] }
proc interface {name} { return [one [get_bd_intf_pins -quiet $name] "interface pin $name"] }
proc space {name} { return [one [get_bd_addr_spaces -quiet $name] "address space $name"] }
proc segment {name} { return [one [get_bd_addr_segs -quiet $name] "address segment $name"] }

proc connect_pins {from args} {
    foreach to $args {
        connect_bd_net [pin $from] [pin $to]
    }
}

proc connect_interface {from to} {
    connect_bd_intf_net [interface $from] [interface $to]
}

# The preset of the board's files, where they are installed; "" where not.
proc set_board {} {
    global design
    set found [get_board_parts -quiet -latest_file_version *:[string tolower $design(board)]:*]
    if {[llength $found] != 1} {
        say "no board files of $design(board): the processing system keeps its defaults, PL as said"
        return ""
    }
    set_property board_part $found [current_project]
    if {[get_property part [current_project]] ne $design(part)} {
        error "board part $found has [get_property part [current_project]], not $design(part)"
    }
    return $found
}

# PL side of the processing system (PG201): one clock from the IO PLL, one reset, HPM0 towards the
# registers, HP0 towards memory (S_AXI_GP2 is its name in the parameters). PYNQ sets the widths of
# both ports from the hand-off when it downloads (AR 66295). The rest stays as it is: PYNQ's boot
# image sets it up, and no bitstream changes it.
proc add_processing_system {board_part} {
    global design
    create_bd_cell -type ip -vlnv xilinx.com:ip:zynq_ultra_ps_e ps
    if {$board_part ne ""} {
        apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e \
            -config {apply_board_preset 1} [get_bd_cells ps]
    }
    set_property -dict [list \
        CONFIG.PSU__USE__M_AXI_GP0 1 \
        CONFIG.PSU__MAXIGP0__DATA_WIDTH 32 \
        CONFIG.PSU__USE__M_AXI_GP1 0 \
        CONFIG.PSU__USE__M_AXI_GP2 0 \
        CONFIG.PSU__USE__S_AXI_GP2 1 \
        CONFIG.PSU__SAXIGP2__DATA_WIDTH 128 \
        CONFIG.PSU__USE__IRQ0 0 \
        CONFIG.PSU__USE__FABRIC__RST 1 \
        CONFIG.PSU__NUM_FABRIC_RESETS 1 \
        CONFIG.PSU__FPGA_PL0_ENABLE 1 \
        CONFIG.PSU__FPGA_PL1_ENABLE 0 \
        CONFIG.PSU__FPGA_PL2_ENABLE 0 \
        CONFIG.PSU__FPGA_PL3_ENABLE 0 \
        CONFIG.PSU__CRL_APB__PL0_REF_CTRL__SRCSEL IOPLL \
        CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ $design(clock_mhz) \
        CONFIG.PSU__CRL_APB__PL0_REF_CTRL__DIVISOR0 $design(divisor0) \
        CONFIG.PSU__CRL_APB__PL0_REF_CTRL__DIVISOR1 $design(divisor1) \
    ] [get_bd_cells ps]
}

# Simple mode, both channels (PG021). No realignment: buffers start on a page. Bursts of 1 KiB at 16
# bytes a beat, and never over the 4 KiB that AXI allows one.
proc add_dma {} {
    global design
    set bits [expr {8 * $design(beat_bytes)}]
    set burst [expr {min(64, 4096 / $design(beat_bytes))}]
    create_bd_cell -type ip -vlnv xilinx.com:ip:axi_dma:7.1 axi_dma
    set_property -dict [list \
        CONFIG.c_include_sg 0 \
        CONFIG.c_sg_include_stscntrl_strm 0 \
        CONFIG.c_sg_length_width $design(length_bits) \
        CONFIG.c_addr_width 40 \
        CONFIG.c_include_mm2s 1 \
        CONFIG.c_include_mm2s_dre 0 \
        CONFIG.c_m_axi_mm2s_data_width $bits \
        CONFIG.c_m_axis_mm2s_tdata_width $bits \
        CONFIG.c_mm2s_burst_size $burst \
        CONFIG.c_include_s2mm 1 \
        CONFIG.c_include_s2mm_dre 0 \
        CONFIG.c_m_axi_s2mm_data_width $bits \
        CONFIG.c_s2mm_burst_size $burst \
    ] [get_bd_cells axi_dma]
}

proc add_accelerator {} {
    global design parameters
    create_bd_cell -type ip -vlnv bacmac:ip:accelerator:$design(abi).0 accelerator
    set properties {}
    foreach {name value} $parameters {
        lappend properties CONFIG.$name $value
    }
    set_property -dict $properties [get_bd_cells accelerator]
}

# SmartConnect (PG247) between `masters` and `slaves`.
proc add_interconnect {name masters slaves} {
    create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect:1.0 $name
    set_property -dict [list \
        CONFIG.NUM_SI [llength $masters] CONFIG.NUM_MI [llength $slaves] CONFIG.NUM_CLKS 1 \
    ] [get_bd_cells $name]
    set number 0
    foreach master $masters {
        connect_interface $master [format "%s/S%02d_AXI" $name $number]
        incr number
    }
    set number 0
    foreach slave $slaves {
        connect_interface [format "%s/M%02d_AXI" $name $number] $slave
        incr number
    }
}

# Registers in the window of HPM0 (UG1085, system address map). The DMA sees DDR and nothing else:
# a wrong address is then a decode error and no write into a peripheral.
proc assign_addresses {} {
    global design
    foreach {slave base bytes} [list \
        accelerator/s_axi/reg0 $design(accelerator_base) $design(accelerator_bytes) \
        axi_dma/S_AXI_LITE/Reg $design(dma_base) $design(dma_bytes) \
    ] {
        assign_bd_address -offset $base -range $bytes \
            -target_address_space [space ps/Data] [segment $slave]
    }
    segment ps/SAXIGP2/HP0_DDR_LOW
    foreach master {axi_dma/Data_MM2S axi_dma/Data_S2MM} {
        foreach slave [get_bd_addr_segs ps/SAXIGP2/*] {
            # DDR_LOW is the first 2 GiB, DDR_HIGH what a board has above them, where it has
            if {[string match *_DDR_* $slave]} {
                assign_bd_address -target_address_space [space $master] $slave
            } else {
                exclude_bd_addr_seg -target_address_space [space $master] $slave
            }
        }
    }
}

# What the IPs made of their parameters, against the manifest: they may derive and round.
proc check_settled {} {
    global design
    set bits [expr {8 * $design(beat_bytes)}]
    foreach {cell property wanted} [list \
        axi_dma c_m_axis_mm2s_tdata_width $bits \
        axi_dma c_s_axis_s2mm_tdata_width $bits \
        axi_dma c_sg_length_width $design(length_bits) \
        axi_dma c_addr_width 40 \
        ps PSU__CRL_APB__PL0_REF_CTRL__SRCSEL IOPLL \
    ] {
        set found [get_property CONFIG.$property [get_bd_cells $cell]]
        if {$found ne $wanted} {
            error "$cell has $property $found, expected $wanted"
        }
    }
    set control CONFIG.PSU__CRL_APB__PL0_REF_CTRL__
    set ps [get_bd_cells ps]
    set found [expr {[get_property ${control}DIVISOR0 $ps] * [get_property ${control}DIVISOR1 $ps]}]
    set wanted [expr {$design(divisor0) * $design(divisor1)}]
    if {$found != $wanted} {
        error "pl_clk0 is divided by $found, expected $wanted: the IO PLL is not at 1500 MHz"
    }
    set found [get_property ${control}ACT_FREQMHZ $ps]
    if {abs($found - $design(clock_mhz)) > 1e-3 * $design(clock_mhz)} {
        error "pl_clk0 runs at $found MHz, expected $design(clock_mhz)"
    }
    say "pl_clk0 runs at $found MHz"
}

proc draw_block_design {board_part} {
    global SYSTEM
    create_bd_design $SYSTEM
    add_processing_system $board_part
    add_accelerator
    add_dma
    # releases the interconnect first, the peripherals 16 cycles later (PG164)
    create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset:5.0 resets
    add_interconnect control ps/M_AXI_HPM0_FPD {accelerator/s_axi axi_dma/S_AXI_LITE}
    add_interconnect memory {axi_dma/M_AXI_MM2S axi_dma/M_AXI_S2MM} ps/S_AXI_HP0_FPD
    connect_interface axi_dma/M_AXIS_MM2S accelerator/s_axis
    connect_interface accelerator/m_axis axi_dma/S_AXIS_S2MM

    connect_pins ps/pl_clk0 ps/maxihpm0_fpd_aclk ps/saxihp0_fpd_aclk resets/slowest_sync_clk \
        control/aclk memory/aclk accelerator/aclk \
        axi_dma/s_axi_lite_aclk axi_dma/m_axi_mm2s_aclk axi_dma/m_axi_s2mm_aclk
    connect_pins ps/pl_resetn0 resets/ext_reset_in
    connect_pins resets/interconnect_aresetn control/aresetn memory/aresetn
    connect_pins resets/peripheral_aresetn accelerator/aresetn axi_dma/axi_resetn

    assign_addresses
    validate_bd_design
    check_settled
    save_bd_design
}

# ---- from the block design to the bitstream

# Files below a folder, hidden folders too: an in-memory project keeps its own in .srcs and .gen.
proc find_below {folder name} {
    set found [glob -nocomplain -directory $folder -types f $name]
    set inner [glob -nocomplain -directory $folder -types d *]
    foreach below [concat $inner [glob -nocomplain -directory $folder -types d .?*]] {
        if {[file tail $below] ni {. ..}} {
            lappend found {*}[find_below $below $name]
        }
    }
    return $found
}

# Where a generated file lies differs between releases; of two the later one is the design's.
proc generated {name} {
    set newest ""
    foreach file [find_below [pwd] $name] {
        if {$newest eq "" || [file mtime $file] >= [file mtime $newest]} {
            set newest $file
        }
    }
    if {$newest eq ""} {
        error "nothing below [pwd] is called $name"
    }
    return $newest
}

proc implement {} {
    global SYSTEM design
    set block_design [one [get_files $SYSTEM.bd] $SYSTEM.bd]
    # Synthesized with the top: in this flow no out-of-context run would make its checkpoint (UG912)
    set_property synth_checkpoint_mode None $block_design
    generate_target all $block_design
    say "hand-off: [generated $SYSTEM.hwh]"
    make_wrapper -files $block_design -top
    read_verilog [list [generated ${SYSTEM}_wrapper.v]]
    synth_design -top ${SYSTEM}_wrapper -part $design(part)
    if {[llength [all_clocks]] == 0} {
        error "no clock constrains the design: the processing system's constraints were not read"
    }
    opt_design
    place_design
    phys_opt_design
    route_design
    write_checkpoint -force routed.dcp
}

# build.txt is written last: where it is, all of it is.
proc write_results {board_part} {
    global here SYSTEM design
    set out [file join $here out]
    set name [file join $out $design(base)]
    report_timing_summary -file ${name}_timing_summary.rpt
    report_utilization -file ${name}_utilization.rpt
    set_property BITSTREAM.CONFIG.USERID $design(build_id) [current_design]
    write_bitstream -force $name.bit
    file copy -force [generated $SYSTEM.hwh] $name.hwh
    set file [open [file join $out build.txt] w]
    puts $file "inputs_sha256 $design(inputs_sha256)"
    puts $file "vivado [version -short]"
    puts $file "board_part [expr {$board_part eq "" ? "none" : $board_part}]"
    close $file
}

proc build {} {
    global here design OLDEST
    # patched releases say more, as "2023.1_AR35"
    if {![regexp {^\d+\.\d+} [version -short] release]
            || [package vcompare $release $OLDEST] < 0} {
        error "Vivado [version -short] is too old: $OLDEST or later is needed"
    }
    set work [file join $here work]
    file delete -force $work [file join $here out]
    file mkdir $work [file join $here out]
    cd $work
    if {$design(jobs) > 0} {
        set_param general.maxThreads $design(jobs)
    }
    say "packaging the accelerator of $design(name)"
    package_accelerator $work
    say "drawing the block design"
    create_project -in_memory -part $design(part)
    set_property target_language Verilog [current_project]
    # no project looks these up in this flow (UG835, auto_detect_xpm); DMA and SmartConnect use them
    set_property XPM_LIBRARIES {XPM_CDC XPM_FIFO XPM_MEMORY} [current_project]
    set_property ip_repo_paths [list $work/ip] [current_project]
    update_ip_catalog
    set board_part [set_board]
    draw_block_design $board_part
    say "synthesis, placement and routing"
    implement
    write_results $board_part
    say "done: [file join $here out]"
}

build
