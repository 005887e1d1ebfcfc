# IP integrator (UG994): the IPs with what they have of pins, interfaces and parameters.
#
# Names and defaults are those of PG201 (processing system), PG021 (DMA), PG247 (SmartConnect) and
# PG164 (reset), as far as the design has to do with them.

array set ips {}
proc define_ip {vlnv parameters pins segment} {
    set ::ips($vlnv) [dict create parameters $parameters pins $pins segment $segment]
}

set aximm xilinx.com:interface:aximm:1.0
set axis xilinx.com:interface:axis:1.0
set clock xilinx.com:signal:clock:1.0
set reset xilinx.com:signal:reset:1.0

set pl_clocks {}
foreach n {0 1 2 3} {
    set control PSU__CRL_APB__PL${n}_REF_CTRL__
    lappend pl_clocks PSU__FPGA_PL${n}_ENABLE [expr {$n == 0}] ${control}SRCSEL IOPLL \
        ${control}FREQMHZ 100 ${control}ACT_FREQMHZ 100 ${control}DIVISOR0 15 ${control}DIVISOR1 1
}
# name, role, type; a name in <> is there when the parameter after it is 1
define_ip xilinx.com:ip:zynq_ultra_ps_e:3.5 [concat $pl_clocks {
    PSU__USE__M_AXI_GP0 1 PSU__USE__M_AXI_GP1 1 PSU__USE__M_AXI_GP2 0
    PSU__USE__S_AXI_GP0 0 PSU__USE__S_AXI_GP2 0 PSU__USE__IRQ0 1
    PSU__MAXIGP0__DATA_WIDTH 128 PSU__SAXIGP2__DATA_WIDTH 64
    PSU__USE__FABRIC__RST 0 PSU__NUM_FABRIC_RESETS 1
}] [list \
    M_AXI_HPM0_FPD master $aximm maxihpm0_fpd_aclk clock $clock \
    M_AXI_HPM1_FPD master $aximm maxihpm1_fpd_aclk clock $clock \
    M_AXI_HPM0_LPD master $aximm maxihpm0_lpd_aclk clock $clock \
    S_AXI_HP0_FPD slave $aximm saxihp0_fpd_aclk clock $clock \
    pl_clk0 clock_out $clock pl_resetn0 reset_out $reset] {}
array set present {
    M_AXI_HPM0_FPD PSU__USE__M_AXI_GP0 maxihpm0_fpd_aclk PSU__USE__M_AXI_GP0
    M_AXI_HPM1_FPD PSU__USE__M_AXI_GP1 maxihpm1_fpd_aclk PSU__USE__M_AXI_GP1
    M_AXI_HPM0_LPD PSU__USE__M_AXI_GP2 maxihpm0_lpd_aclk PSU__USE__M_AXI_GP2
    S_AXI_HP0_FPD PSU__USE__S_AXI_GP2 saxihp0_fpd_aclk PSU__USE__S_AXI_GP2
    pl_clk0 PSU__FPGA_PL0_ENABLE pl_resetn0 PSU__USE__FABRIC__RST
    M_AXI_MM2S c_include_mm2s M_AXIS_MM2S c_include_mm2s m_axi_mm2s_aclk c_include_mm2s
    M_AXI_S2MM c_include_s2mm S_AXIS_S2MM c_include_s2mm m_axi_s2mm_aclk c_include_s2mm
    M_AXI_SG c_include_sg m_axi_sg_aclk c_include_sg
}
define_ip xilinx.com:ip:axi_dma:7.1 {
    c_include_sg 1 c_sg_include_stscntrl_strm 1 c_sg_length_width 14 c_addr_width 32 c_micro_dma 0
    c_include_mm2s 1 c_include_mm2s_dre 0 c_m_axi_mm2s_data_width 32 c_m_axis_mm2s_tdata_width 32
    c_mm2s_burst_size 16
    c_include_s2mm 1 c_include_s2mm_dre 0 c_m_axi_s2mm_data_width 32 c_s_axis_s2mm_tdata_width 32
    c_s2mm_burst_size 16
} [list \
    S_AXI_LITE slave $aximm s_axi_lite_aclk clock $clock axi_resetn reset $reset \
    M_AXI_SG master $aximm m_axi_sg_aclk clock $clock \
    M_AXI_MM2S master $aximm m_axi_mm2s_aclk clock $clock M_AXIS_MM2S master $axis \
    M_AXI_S2MM master $aximm m_axi_s2mm_aclk clock $clock S_AXIS_S2MM slave $axis] \
    {S_AXI_LITE Reg 4096}
define_ip xilinx.com:ip:proc_sys_reset:5.0 {} [list \
    slowest_sync_clk clock $clock ext_reset_in reset $reset \
    interconnect_aresetn reset_out $reset peripheral_aresetn reset_out $reset \
    mb_reset reset_out $reset bus_struct_reset reset_out $reset peripheral_reset reset_out $reset] {}
define_ip xilinx.com:ip:smartconnect:1.0 {NUM_SI 2 NUM_MI 1 NUM_CLKS 1} [list \
    aclk clock $clock aresetn reset $reset] {}

# Values that are allowed, by the end of a parameter's name.
set allowed {
    *DATA_WIDTH {32 64 128}
    *_data_width {32 64 128 256 512 1024}
    *_tdata_width {8 16 32 64 128 256 512 1024}
    *_burst_size {2 4 8 16 32 64 128 256}
    *SRCSEL {IOPLL RPLL DPLL}
    c_include_* {0 1}
    *_ENABLE {0 1}
    PSU__USE__* {0 1}
}

command create_bd_design {} {} 1 1 { set ::system [lindex $rest 0] }
command get_bd_cells {} {} 1 1 {
    set name /[lindex $rest 0]
    if {![info exists ::kind($name)]} { error "no cell $name" }
    return $name
}
command create_bd_cell {} {-type -vlnv -reference} 1 1 {
    set matches [lsort -dictionary [array names ::ips $given(-vlnv)*]]
    if {$given(-type) ne "ip" || [llength $matches] != 1} { error "no IP $given(-vlnv)" }
    set name /[lindex $rest 0]
    if {[info exists ::kind($name)]} { error "two cells $name" }
    made $name cell
    set ::vlnv($name) [lindex $matches 0]
    foreach {key value} [dict get $::ips($::vlnv($name)) parameters] {
        set ::property($name,CONFIG.$key) $value
    }
    record cell $name $::vlnv($name)
    reshape $name
    return $name
}
command apply_bd_automation {} {-rule -config} 1 1 {
    if {$given(-rule) ne "xilinx.com:bd_rule:zynq_ultra_ps_e"} { error "no rule $given(-rule)" }
    record preset [lindex $rest 0]
}

proc parameter {cell key} {
    if {![info exists ::property($cell,$key)]} { error "$cell has no parameter $key" }
    return $::property($cell,$key)
}

proc set_parameter {cell key value} {
    parameter $cell $key
    foreach {pattern values} $::allowed {
        if {[string match CONFIG.$pattern $key] && $value ni $values} {
            error "$cell: $key cannot be $value"
        }
    }
    if {$key eq "CONFIG.c_sg_length_width" && ($value < 8 || $value > 26)} {
        error "$cell: $key cannot be $value"
    }
    set ::property($cell,$key) $value
    record config $cell [string range $key 7 end] $value
}

# Pins and interfaces as the parameters have them.
proc reshape {cell} {
    array unset ::role $cell/*
    array unset ::type $cell/*
    foreach {pin role type} [dict get $::ips($::vlnv($cell)) pins] {
        if {[info exists ::present($pin)]
                && [info exists ::property($cell,CONFIG.$::present($pin))]
                && !$::property($cell,CONFIG.$::present($pin))} { continue }
        set ::role($cell/$pin) $role
        set ::type($cell/$pin) $type
    }
    foreach {key form role} {NUM_SI S%02d_AXI slave NUM_MI M%02d_AXI master} {
        if {![info exists ::property($cell,CONFIG.$key)]} { continue }
        for {set n 0} {$n < $::property($cell,CONFIG.$key)} {incr n} {
            set ::role($cell/[format $form $n]) $role
            set ::type($cell/[format $form $n]) $::aximm
        }
    }
}

proc is_interface {pin} {
    return [expr {[info exists ::role($pin)] && $::role($pin) in {master slave}}]
}
command get_bd_pins {-quiet} {} 1 1 {
    set pin /[lindex $rest 0]
    return [expr {[info exists ::role($pin)] && ![is_interface $pin] ? $pin : ""}]
}
command get_bd_intf_pins {-quiet} {} 1 1 {
    set pin /[lindex $rest 0]
    return [expr {[is_interface $pin] ? $pin : ""}]
}

array set net {}
command connect_bd_net {} {} 2 2 {
    lassign $rest from to
    if {![string match *_out $::role($from)] || $::role($from) ne "$::role($to)_out"} {
        error "connect_bd_net: $from ($::role($from)) cannot drive $to ($::role($to))"
    }
    if {[info exists ::net($to)]} { error "connect_bd_net: $to is driven by $::net($to)" }
    set ::net($to) $from
    record net $from $to
}
command connect_bd_intf_net {} {} 2 2 {
    lassign $rest from to
    if {$::role($from) ne "master" || $::role($to) ne "slave" || $::type($from) ne $::type($to)} {
        error "connect_bd_intf_net: $from ($::role($from)) to $to ($::role($to))"
    }
    foreach pin $rest {
        if {[info exists ::net($pin)]} { error "connect_bd_intf_net: $pin has one already" }
    }
    set ::net($from) $to
    set ::net($to) $from
    record interface $from $to
}

# ---- addresses: spaces of masters, segments of slaves

set ps_segments {
    HP0_DDR_LOW 0x00000000 0x80000000 HP0_DDR_HIGH 0x800000000 0x800000000
    HP0_LPS_OCM 0xFF000000 0x1000000 HP0_QSPI 0xC0000000 0x20000000
}
proc segments {} {
    set found {}
    foreach cell [array names ::vlnv] {
        lassign [dict get $::ips($::vlnv($cell)) segment] pin block bytes
        if {$pin ne ""} { lappend found $cell/$pin/$block }
    }
    if {[info exists ::role(/ps/S_AXI_HP0_FPD)]} {
        foreach {name base bytes} $::ps_segments { lappend found /ps/SAXIGP2/$name }
    }
    return $found
}
command get_bd_addr_segs {-quiet} {} 1 1 {
    return [lsearch -all -inline [segments] /[lindex $rest 0]]
}
command get_bd_addr_spaces {-quiet} {} 1 1 {
    set space /[lindex $rest 0]
    array set masters {/ps/Data /ps/M_AXI_HPM0_FPD
        /axi_dma/Data_MM2S /axi_dma/M_AXI_MM2S /axi_dma/Data_S2MM /axi_dma/M_AXI_S2MM}
    if {![info exists masters($space)] || ![info exists ::role($masters($space))]} { return "" }
    return $space
}
array set mapped {}
command assign_bd_address {} {-offset -range -target_address_space} 1 1 {
    set segment [lindex $rest 0]
    set space $given(-target_address_space)
    if {$segment ni [segments] || $space eq ""} { error "assign_bd_address: $space, $segment" }
    foreach {name base bytes} $::ps_segments {
        if {$segment eq "/ps/SAXIGP2/$name"} { set fixed [list $base $bytes] }
    }
    if {[info exists fixed]} {
        lassign $fixed base bytes
        if {$base + $bytes > 1 << [parameter /axi_dma CONFIG.c_addr_width]} {
            error "assign_bd_address: $segment does not fit the address space"
        }
    } else {
        set base $given(-offset)
        set bytes $given(-range)
        if {$base % $bytes || $base < 0xA0000000 || $base + $bytes > 0xB0000000} {
            error "assign_bd_address: $segment cannot lie at $base"
        }
        foreach {other range} [array get ::mapped "$space *"] {
            lassign $range low size
            if {$base < $low + $size && $low < $base + $bytes} { error "$segment overlaps $other" }
        }
    }
    set ::mapped([list $space $segment]) [list $base $bytes]
    record segment $space $segment [format 0x%X $base] [format 0x%X $bytes]
}
command exclude_bd_addr_seg {} {-target_address_space} 1 1 {
    set segment [lindex $rest 0]
    if {$segment ni [segments]} { error "exclude_bd_addr_seg: no $segment" }
    set ::mapped([list $given(-target_address_space) $segment]) excluded
    record excluded $given(-target_address_space) $segment
}

# ---- validation: everything connected, everything mapped; derived parameters settle

command validate_bd_design {} {} 0 0 {
    foreach pin [lsort [array names ::role]] {
        if {![string match *_out $::role($pin)] && ![info exists ::net($pin)]} {
            error "\[BD 41-758\] not connected: $pin"
        }
    }
    foreach segment [segments] {
        set spaces [expr {[string match /ps/* $segment] ?
            {/axi_dma/Data_MM2S /axi_dma/Data_S2MM} : {/ps/Data}}]
        foreach space $spaces {
            if {![info exists ::mapped([list $space $segment])]} {
                error "\[BD 41-1356\] $segment is not mapped into $space"
            }
        }
    }
    set bits [expr {8 * [parameter /accelerator CONFIG.IN]}]
    set ::property(/axi_dma,CONFIG.c_s_axis_s2mm_tdata_width) $bits
    set iopll [setting IOPLL 1500]
    set control /ps,CONFIG.PSU__CRL_APB__PL0_REF_CTRL__
    set divisor [expr {int(ceil(double($iopll) / $::property(${control}FREQMHZ) - 1e-3))}]
    set ::property(${control}DIVISOR0) $divisor
    set ::property(${control}DIVISOR1) 1
    set ::property(${control}ACT_FREQMHZ) [expr {$iopll * 0.99999 / $divisor}]
}
command save_bd_design {} {} 0 0 {
    file mkdir .srcs/sources_1/bd/$::system
    close [open .srcs/sources_1/bd/$::system/$::system.bd w]
    made $::system.bd file
}
