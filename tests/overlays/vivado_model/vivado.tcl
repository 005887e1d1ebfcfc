# A model of Vivado in batch mode for tests of build.tcl, run by plain tclsh:
#
#     tclsh vivado.tcl -mode batch -source build.tcl ...
#
# It knows the commands of UG835 and UG1118 that the script uses, with their options; any other
# command, option, pin, interface, address segment, property or value that it does not know is an
# error, and so is a design that is not whole when it is validated. What was drawn is recorded, a
# line each with tabs between, in the file that MODEL_RECORD names. It synthesizes nothing.
#
# MODEL_VERSION   release that it says it is [2024.2]
# MODEL_BOARDS    1: the ZCU104's board files are installed [0]
# MODEL_IOPLL     MHz of the IO PLL [1500]
# MODEL_SLACK     worst setup slack in ns that the timing summary says [0.234]
# MODEL_FAIL      a command that fails when it is called
# MODEL_HANG      a command that never returns; it starts a process of its own first, as Vivado does
# MODEL_HEADLESS  1: no clock constraint is read

set model_folder [file dirname [file normalize [info script]]]

proc setting {name default} {
    return [expr {[info exists ::env(MODEL_$name)] ? $::env(MODEL_$name) : $default}]
}

set recording [open [setting RECORD /dev/null] w]
proc record {args} {
    puts $::recording [join $args \t]
    flush $::recording
}

# No command but those of Tcl and those defined here: tclsh would try a program of that name.
proc unknown {name args} { error "invalid command name \"$name\"" }

# command name {flags} {options with a value} least most body: the body sees `given`, an array of
# the options, and `rest`, the list of the other arguments.
proc command {name flags options least most body} {
    proc ::$name args [format {
        array set given {}
        set rest {}
        for {set at 0} {$at < [llength $args]} {incr at} {
            set word [lindex $args $at]
            if {$word in {%2$s}} {
                set given($word) 1
            } elseif {$word in {%3$s}} {
                if {$at + 1 == [llength $args]} { error "%1$s: $word wants a value" }
                set given($word) [lindex $args [incr at]]
            } elseif {[regexp {^-[a-z]} $word]} {
                error "%1$s: unknown option $word"
            } else {
                lappend rest $word
            }
        }
        if {[llength $rest] < %4$s || [llength $rest] > %5$s} {
            error "%1$s: wrong number of arguments: $rest"
        }
        record call %1$s {*}$args
        trip %1$s
        %6$s
    } $name $flags $options $least $most $body]
}

proc trip {name} {
    if {[setting HANG ""] eq $name} {
        exec sleep 600
    }
    if {[setting FAIL ""] eq $name} {
        puts "ERROR: \[Model 1-23\] $name failed as it was told to"
        puts "ERROR: \[Model 1-24\] and a second line of why"
        error "$name failed"
    }
}

# Objects are their names; `kind` says what each one is, `property` holds what was set.
array set kind {}
array set property {}
proc made {name what} {
    set ::kind($name) $what
    return $name
}

# Properties that may be set, by kind of object; those of a cell are its IP's parameters.
array set settable {
    project {part board_part target_language ip_repo_paths XPM_LIBRARIES}
    fileset {top}
    core {name version display_name description}
    bus_interface {slave_memory_map_ref}
    address_block {usage access width range}
    register {description address_offset size access}
    field {description bit_offset bit_width access}
    file {synth_checkpoint_mode}
    design {BITSTREAM.CONFIG.USERID}
}

command set_property {} {-dict} 1 3 {
    if {[info exists given(-dict)]} {
        lassign $rest object
        set pairs $given(-dict)
    } else {
        lassign $rest key value object
        set pairs [list $key $value]
    }
    if {![info exists ::kind($object)]} { error "set_property: no object \"$object\"" }
    foreach {key value} $pairs {
        if {$::kind($object) eq "cell"} {
            set_parameter $object $key $value
        } elseif {$key ni $::settable($::kind($object))} {
            error "set_property: a $::kind($object) has no property $key"
        } else {
            check_value $::kind($object) $key $value
            set ::property($object,$key) $value
            record property $object $key $value
        }
    }
    if {$::kind($object) eq "cell"} { reshape $object }
}

proc check_value {what key value} {
    set wants {
        access {^(read-only|read-write|write-only)$}
        usage {^(register|memory)$}
        size {^32$}
        width {^32$}
        address_offset {^0x[0-9A-Fa-f]+$}
        bit_offset {^\d+$}
        bit_width {^\d+$}
        range {^\d+$}
        synth_checkpoint_mode {^(None|Singular|Hierarchical)$}
        BITSTREAM.CONFIG.USERID {^0x[0-9A-Fa-f]{8}$}
    }
    if {[dict exists $wants $key] && ![regexp [dict get $wants $key] $value]} {
        error "set_property: a $what has no $key \"$value\""
    }
}

command get_property {} {} 2 2 {
    lassign $rest key object
    if {![info exists ::kind($object)]} { error "get_property: no object \"$object\"" }
    if {$::kind($object) eq "cell"} { return [parameter $object $key] }
    if {![info exists ::property($object,$key)]} {
        error "get_property: $object has no property $key"
    }
    return $::property($object,$key)
}

# ---- session and projects

command version {-short} {} 0 0 { return [setting VERSION 2024.2] }
command set_param {} {} 2 2 {
    if {[lindex $rest 0] ne "general.maxThreads"} { error "set_param: no [lindex $rest 0]" }
}
command create_project {-in_memory -force} {-part} 0 2 {
    if {[info exists ::kind(project)]} { error "create_project: one is open" }
    if {![info exists given(-in_memory)]} {
        if {[llength $rest] != 2} { error "create_project: a name and a folder are needed" }
        file mkdir [lindex $rest 1]
    }
    made project project
    made sources_1 fileset
    set ::property(project,part) $given(-part)
    set ::property(project,in_memory) [info exists given(-in_memory)]
    set ::project_files {}
}
command current_project {} {} 0 0 {
    if {![info exists ::kind(project)]} { error "no open project" }
    return project
}
command close_project {} {} 0 0 {
    unset ::kind(project) ::kind(sources_1)
    array unset ::property project,*
}
command current_fileset {} {} 0 0 { return sources_1 }
command add_files {-norecurse} {} 1 1 {
    foreach file [lindex $rest 0] {
        if {![file isfile $file]} { error "add_files: no file $file" }
        lappend ::project_files $file
    }
}
command update_compile_order {} {-fileset} 0 0 {}
command update_ip_catalog {} {} 0 0 { read_catalog $::property(project,ip_repo_paths) }
command get_board_parts {-quiet -latest_file_version} {} 1 1 {
    set part xilinx.com:zcu104:part0:1.1
    if {![setting BOARDS 0] || ![string match [lindex $rest 0] $part]} { return "" }
    return $part
}
command get_files {} {} 1 1 {
    if {![info exists ::kind([lindex $rest 0])]} { return "" }
    return [lindex $rest 0]
}

source [file join $model_folder packager.tcl]
source [file join $model_folder block_design.tcl]
source [file join $model_folder implementation.tcl]

# ---- the command line (UG894)

set script ""
for {set at 0} {$at < $argc} {incr at} {
    switch -- [lindex $argv $at] {
        -mode { if {[lindex $argv [incr at]] ne "batch"} { error "only -mode batch" } }
        -source { set script [lindex $argv [incr at]] }
        -log { close [open [lindex $argv [incr at]] w] }
        -notrace - -nojournal {}
        default { error "unknown option [lindex $argv $at]" }
    }
}
puts "****** Vivado v[version -short] (64-bit), a model"
if {[catch {uplevel #0 [list source $script]} problem]} {
    puts "ERROR: $problem"
    puts "    while executing\n$::errorInfo"
    puts "INFO: \[Common 17-206\] Exiting Vivado"
    exit 1
}
puts "INFO: \[Common 17-206\] Exiting Vivado"
