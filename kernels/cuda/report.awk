# From what ptxas -v says, a line for each kernel: architecture, registers, bytes spilled, bytes of stack, its name.
/Compiling entry function/ {
    split($0, quoted, "'")
    name = quoted[2]
    arch = quoted[4]
}
/bytes stack frame/ {
    stack = $1
    spilled = $5
}
/Used [0-9]+ registers/ {
    for (i = 1; i < NF; i++) if ($i == "Used") registers = $(i + 1)
    if (name != "") printf "%-6s %4d registers %5d spilled %5d stack  %s\n", arch, registers, spilled, stack, name
    name = ""
}
