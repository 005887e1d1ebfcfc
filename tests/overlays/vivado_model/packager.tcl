# IP packager (UG1118): interfaces and parameters come from the header of the top module.

namespace eval ipx {}
command ipx::package_project {-import_files -force} {-root_dir -vendor -library -taxonomy -set_current} 0 0 {
    set top $::property(sources_1,top)
    set source [lsearch -inline -glob $::project_files */$top.v]
    if {$source eq ""} { error "package_project: no file of module $top" }
    file mkdir $given(-root_dir)/src
    foreach file $::project_files { file copy -force $file $given(-root_dir)/src }
    made core core
    array set ::property [list core,root_dir $given(-root_dir) core,vendor $given(-vendor) \
        core,library $given(-library) core,name $top core,version 1.0]
    set ::packaged_registers {}
    read_header $source
    return core
}

# Parameters with their defaults, and what the X_INTERFACE_INFO attributes name.
proc read_header {file} {
    set handle [open $file]
    set text [read $handle]
    close $handle
    set ::packaged_parameters {}
    foreach {all bits name value} [regexp -all -inline {parameter (\[31:0\] )?(\w+) = ([\w']+)} $text] {
        lappend ::packaged_parameters $name [regsub {^32'd} $value ""]
    }
    set ::packaged_interfaces {}
    set pattern {X_INTERFACE_INFO = "(\S+) (\w+) (\w+)" \*\)\s+(?:\(\*[^)]*\*\)\s+)?(input|output)\s+wire\s+(?:\[[^\]]*\]\s+)?(\w+)}
    foreach {all type name signal direction port} [regexp -all -inline $pattern $text] {
        if {[string match xilinx.com:signal:* $type]} {
            lappend ::packaged_interfaces $port [lindex [split $type :] 2] $type
        } elseif {$signal in {AWVALID TVALID}} {
            lappend ::packaged_interfaces $name [expr {$direction eq "input" ? "slave" : "master"}] $type
            made bus_interface/$name bus_interface
        }
    }
}

command ipx::current_core {} {} 0 0 { return core }
command ipx::remove_all_memory_map {} {} 1 1 { array unset ::kind memory_map/* }
command ipx::add_memory_map {} {} 2 2 { return [made memory_map/[lindex $rest 0] memory_map] }
command ipx::get_bus_interfaces {} {-of_objects} 1 1 {
    set name bus_interface/[lindex $rest 0]
    if {![info exists ::kind($name)]} { error "no bus interface [lindex $rest 0]" }
    return $name
}
command ipx::add_address_block {} {} 2 2 {
    lassign $rest name map
    if {![info exists ::kind($map)]} { error "no memory map $map" }
    set ::packaged_block [list [file tail $map] $name]
    return [made address_block/$name address_block]
}
command ipx::add_register {} {} 2 2 {
    lassign $rest name block
    if {![info exists ::kind($block)] || [info exists ::kind(register/$name)]} {
        error "add_register $name: no block $block, or there already"
    }
    lappend ::packaged_registers $name
    return [made register/$name register]
}
command ipx::add_field {} {} 2 2 {
    lassign $rest name register
    if {![info exists ::kind($register)]} { error "add_field $name: no register $register" }
    return [made $register/$name field]
}
foreach name {create_xgui_files update_checksums check_integrity} {
    command ipx::$name {} {} 1 1 {}
}
command ipx::save_core {} {} 1 1 {
    lassign $::packaged_block map block
    if {$::property(bus_interface/$map,slave_memory_map_ref) ne $map} { error "no map of $map" }
    foreach register $::packaged_registers {
        foreach key {description address_offset size access} {
            if {![info exists ::property(register/$register,$key)]} { error "$register: no $key" }
        }
    }
    close [open $::property(core,root_dir)/component.xml w]
}

# The catalogue finds what was saved in one of the repositories.
proc read_catalog {paths} {
    foreach path $paths {
        if {![file isfile $path/component.xml]} { error "no IP in $path" }
        set vlnv $::property(core,vendor):$::property(core,library)
        append vlnv :$::property(core,name):$::property(core,version)
        lassign $::packaged_block map block
        define_ip $vlnv $::packaged_parameters $::packaged_interfaces \
            [list $map $block $::property(address_block/$block,range)]
    }
}
