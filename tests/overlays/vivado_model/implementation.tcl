# From the block design to the bitstream, step after step; what each leaves has the layout of
# Vivado's own, every number of our own making.

set step drawn
proc after_step {wanted next} {
    if {$::step ne $wanted} { error "design is $::step, expected $wanted" }
    set ::step $next
}
proc write_file {path text} {
    set handle [open $path w]
    fconfigure $handle -encoding utf-8
    puts -nonewline $handle $text
    close $handle
}

command generate_target {} {} 2 2 {
    if {$::property([lindex $rest 1],synth_checkpoint_mode) ne "None"} {
        error "an out-of-context checkpoint would be missing"
    }
    after_step drawn generated
    set folder .gen/sources_1/bd/$::system/hw_handoff
    file mkdir $folder
    write_file $folder/$::system.hwh [hand_off]
}
command make_wrapper {-top} {-files} 0 0 {
    after_step generated wrapped
    set file [file normalize .gen/sources_1/bd/$::system/hdl/${::system}_wrapper.v]
    file mkdir [file dirname $file]
    write_file $file "module ${::system}_wrapper; endmodule\n"
    return $file
}
command read_verilog {} {} 1 1 {
    foreach file [lindex $rest 0] {
        if {![file isfile $file]} { error "read_verilog: no file $file" }
        set ::top [file rootname [file tail $file]]
    }
}
command synth_design {} {-top -part} 0 0 {
    after_step wrapped synthesized
    if {$given(-top) ne $::top || $given(-part) ne $::property(project,part)} {
        error "synth_design: $given(-top) for $given(-part)"
    }
    foreach library {XPM_CDC XPM_FIFO XPM_MEMORY} {
        if {![info exists ::property(project,XPM_LIBRARIES)]
                || $library ni $::property(project,XPM_LIBRARIES)} {
            error "synth_design: macros of $library are black boxes"
        }
    }
    if {!$::property(project,in_memory)} { error "synth_design: this is not the non-project flow" }
}
command all_clocks {} {} 0 0 { return [expr {[setting HEADLESS 0] ? "" : "clk_pl_0"}] }
foreach {name before next} {
    opt_design synthesized optimized place_design optimized placed
    phys_opt_design placed improved route_design improved routed
} {
    command $name {} {} 0 0 "after_step $before $next"
}
command write_checkpoint {-force} {} 1 1 { write_file [lindex $rest 0] "" }
command current_design {} {} 0 0 { return [made design design] }

proc report_header {command} {
    return [format {Copyright: a model's report, of no design
-----------------------------------------------------------------------------------------------
| Tool Version      : Vivado v.%s (lin64) Build 0000000
| Date              : Thu Jan  1 00:00:00 2026
| Command           : %s
| Design            : %s
| Device            : xczu7ev-ffvc1156
| Speed File        : -2  PRODUCTION 1.30 05-15-2022
| Design State      : Routed
-----------------------------------------------------------------------------------------------

} [setting VERSION 2024.2] $command $::top]
}

command report_timing_summary {} {-file} 0 0 {
    after_step routed routed
    set slack [setting SLACK 0.234]
    set late [expr {$slack < 0}]
    set period [format %.3f [expr {1e3 / [parameter /ps CONFIG.PSU__CRL_APB__PL0_REF_CTRL__ACT_FREQMHZ]}]]
    set verdict [expr {$late ? "Timing constraints are not met."
        : "All user specified timing constraints are met."}]
    write_file $given(-file) "[report_header report_timing_summary]1. checking no_clock (0)
------------------------
 There are 0 register/latch pins with no clock.

------------------------------------------------------------------------------------------------
| Design Timing Summary
| ---------------------
------------------------------------------------------------------------------------------------

    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)      THS(ns)  THS Failing Endpoints  THS Total Endpoints     WPWS(ns)     TPWS(ns)  TPWS Failing Endpoints  TPWS Total Endpoints
    -------      -------  ---------------------  -------------------      -------      -------  ---------------------  -------------------     --------     --------  ----------------------  --------------------
      $slack        [expr {$late ? $slack : "0.000"}]  $late  61000  0.010  0.000  0  61000  1.166  0.000  0  27000


$verdict


------------------------------------------------------------------------------------------------
| Clock Summary
| -------------
------------------------------------------------------------------------------------------------

Clock     Waveform(ns)         Period(ns)      Frequency(MHz)
-----     ------------         ----------      --------------
clk_pl_0  {0.000 [format %.3f [expr {$period / 2}]]}        $period           [format %.3f [expr {1e3 / $period}]]


------------------------------------------------------------------------------------------------
| Intra Clock Table
| -----------------
------------------------------------------------------------------------------------------------
"
}

command report_utilization {} {-file} 0 0 {
    after_step routed routed
    set text [report_header report_utilization]
    foreach {title rows} {
        "1. CLB Logic" {{CLB LUTs} 30123 230400 {CLB Registers} 25456 460800}
        "3. BLOCKRAM" {{Block RAM Tile} 240.5 312 URAM 64 96}
        "4. ARITHMETIC" {DSPs 69 1728}
    } {
        append text "$title\n------------\n\n"
        append text "| Site Type | Used | Fixed | Prohibited | Available | Util% |\n+---+\n"
        foreach {site used available} $rows {
            append text "| $site | $used | 0 | 0 | $available | 1.00 |\n"
        }
        append text "\n"
    }
    write_file $given(-file) $text
}

command write_bitstream {-force} {} 1 1 {
    after_step routed written
    set user [string toupper [string range $::property(design,BITSTREAM.CONFIG.USERID) 2 end]]
    set handle [open [lindex $rest 0] wb]
    puts -nonewline $handle [binary format SH*S 9 0ff00ff00ff00ff000 1]
    foreach {key value} [list a "$::top;UserID=0X$user;Version=[setting VERSION 2024.2]" \
            b $::property(project,part) c 2026/01/01 d 00:00:00] {
        append value \0
        puts -nonewline $handle [binary format aSa* $key [string length $value] $value]
    }
    set payload [string repeat \xff 64]\xaa\x99\x55\x66[string repeat \0 60]
    puts -nonewline $handle [binary format aIa* e [string length $payload] $payload]
    close $handle
}

# ---- the hand-off, as far as PYNQ and the overlay check read one

proc xml {text} { return [string map {& &amp; < &lt; > &gt; \" &quot;} $text] }

proc hand_off {} {
    lassign [split $::property(project,part) -] device package speed
    set text "\ufeff<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"no\" ?>\n"
    append text "<EDKSYSTEM EDWVERSION=\"1.2\" TIMESTAMP=\"\" VIVADOVERSION=\"[setting VERSION 2024.2]\">\n"
    append text "<SYSTEMINFO ARCH=\"zynquplus\" DEVICE=\"$device\" NAME=\"$::system\" PACKAGE=\"$package\" SPEEDGRADE=\"-$speed\"/>\n"
    append text "<EXTERNALPORTS/>\n<EXTERNALINTERFACES/>\n<MODULES>\n"
    foreach cell [lsort [array names ::vlnv]] { append text [hand_off_module $cell] }
    return "$text</MODULES>\n</EDKSYSTEM>\n"
}

proc hand_off_module {cell} {
    set name [string range $cell 1 end]
    set words [split $::vlnv($cell) :]
    set text "<MODULE FULLNAME=\"$cell\" HWVERSION=\"[lindex $words 3]\" INSTANCE=\"$name\" "
    append text "MODTYPE=\"[lindex $words 2]\" VLNV=\"$::vlnv($cell)\">\n"
    lassign [dict get $::ips($::vlnv($cell)) segment] slave block bytes
    if {$name eq "accelerator"} {
        append text "<ADDRESSBLOCKS>\n<ADDRESSBLOCK ACCESS=\"read-write\" INTERFACE=\"$slave\" NAME=\"$block\" RANGE=\"$bytes\" USAGE=\"register\">\n<REGISTERS>\n"
        foreach register $::packaged_registers { append text [hand_off_register $register] }
        append text "</REGISTERS>\n</ADDRESSBLOCK>\n</ADDRESSBLOCKS>\n"
    }
    append text "<PARAMETERS>\n"
    foreach key [lsort [array names ::property $cell,CONFIG.*]] {
        set parameter [string map [list $cell,CONFIG. ""] $key]
        append text "<PARAMETER NAME=\"$parameter\" VALUE=\"$::property($key)\"/>\n"
        # model parameters of the processing system's ports: PYNQ sets their widths by these
        if {[regexp {^PSU__([MS]AXIGP\d)__DATA_WIDTH$} $parameter all port]} {
            append text "<PARAMETER NAME=\"C_${port}_DATA_WIDTH\" VALUE=\"$::property($key)\"/>\n"
        }
    }
    append text "</PARAMETERS>\n<PORTS>\n"
    foreach pin [lsort [array names ::role $cell/*]] {
        if {[is_interface $pin]} { continue }
        set driver [expr {[info exists ::net($pin)] ? $::net($pin) : $pin}]
        set signal [join [split [string range $driver 1 end] /] _]
        set direction [expr {[string match *_out $::role($pin)] ? "O" : "I"}]
        set kind [expr {[string match clock* $::role($pin)] ? "clk" : "rst"}]
        append text "<PORT DIR=\"$direction\" NAME=\"[file tail $pin]\" SIGIS=\"$kind\" SIGNAME=\"$signal\">\n<CONNECTIONS>\n"
        foreach {sink source} [array get ::net] {
            if {$source eq $pin && ![is_interface $pin]} { append text [hand_off_connection $sink] }
        }
        if {$driver ne $pin} { append text [hand_off_connection $driver] }
        append text "</CONNECTIONS>\n</PORT>\n"
    }
    append text "</PORTS>\n<BUSINTERFACES>\n"
    foreach pin [lsort [array names ::role $cell/*]] {
        if {![is_interface $pin]} { continue }
        set names [expr {$::type($pin) eq $::axis ? {INITIATOR TARGET} : {MASTER SLAVE}}]
        set role [lindex $names [expr {$::role($pin) eq "slave"}]]
        append text "<BUSINTERFACE NAME=\"[file tail $pin]\" TYPE=\"$role\" VLNV=\"$::type($pin)\"/>\n"
    }
    append text "</BUSINTERFACES>\n[hand_off_memory_map $cell]</MODULE>\n"
    return $text
}

proc hand_off_connection {pin} {
    lassign [split [string range $pin 1 end] /] instance port
    return "<CONNECTION INSTANCE=\"$instance\" PORT=\"$port\"/>\n"
}

proc hand_off_register {register} {
    set text "<REGISTER NAME=\"$register\">\n"
    foreach {name key} {DESCRIPTION description ADDRESS_OFFSET address_offset SIZE size ACCESS access} {
        append text "<PROPERTY NAME=\"$name\" VALUE=\"[xml $::property(register/$register,$key)]\"/>\n"
    }
    append text "<FIELDS>\n"
    foreach field [lsort [array names ::kind register/$register/*]] {
        append text "<FIELD NAME=\"[file tail $field]\">\n"
        foreach {name key} {DESCRIPTION description ACCESS access BIT_OFFSET bit_offset BIT_WIDTH bit_width} {
            append text "<PROPERTY NAME=\"$name\" VALUE=\"[xml $::property($field,$key)]\"/>\n"
        }
        append text "</FIELD>\n"
    }
    return "$text</FIELDS>\n</REGISTER>\n"
}

# A master's module lists what it sees, as Vivado has it.
proc hand_off_memory_map {cell} {
    set text ""
    foreach {pair range} [array get ::mapped] {
        lassign $pair space segment
        if {![string match $cell/* $space] || $range eq "excluded"} { continue }
        lassign $range base bytes
        lassign [split [string range $segment 1 end] /] instance slave block
        set master [dict get {Data M_AXI_HPM0_FPD Data_MM2S M_AXI_MM2S Data_S2MM M_AXI_S2MM} \
            [file tail $space]]
        if {$instance eq "ps"} { set slave S_AXI_HP0_FPD }
        set type [expr {$instance eq "ps" ? "MEMORY" : "REGISTER"}]
        append text "<MEMRANGE ADDRESSBLOCK=\"$block\" BASEVALUE=\"[format 0x%08llX $base]\" HIGHVALUE=\"[format 0x%08llX [expr {$base + $bytes - 1}]]\" INSTANCE=\"$instance\" IS_DATA=\"TRUE\" IS_INSTRUCTION=\"TRUE\" MASTERBUSINTERFACE=\"$master\" MEMTYPE=\"$type\" SLAVEBUSINTERFACE=\"$slave\"/>\n"
    }
    return [expr {$text eq "" ? "" : "<MEMORYMAP>\n$text</MEMORYMAP>\n"}]
}
