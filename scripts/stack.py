#!/usr/bin/env python3
"""The deepest stack that a linked image for thumbv7em can reach from its entry, and the calls that lead there.

    scripts/stack.py [--open] IMAGE ENTRY

What each function takes is read from its instructions, and what it calls too: a bound that no packet can exceed. There
is an answer only if there is nothing to guess: no recursion, and no other change of the stack pointer than by a constant.
A call through a pointer is taken for one of whatever function the image has the address of. With many such functions that
looks like recursion where there is none: --open leaves out calls that lead back into a function that is running already.
"""

import re
import subprocess
import sys

HEAD = re.compile(r"^([0-9a-f]+) <(.*)>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*([^<@;]*)")
CALLS = {"bl", "blx"}
PUSHES = re.compile(r"^(push|stmdb)(\.w)?$")
FORKS = re.compile(r"^(b|beq|bne|bhs|blo|bmi|bpl|bvs|bvc|bhi|bls|bge|blt|bgt|ble|cbz|cbnz)(\.w|\.n)?$")
# Instructions that read the stack pointer or restore it, and take nothing.
HARMLESS = re.compile(r"^(ldm|stm|vldm|vstm|cmp|add|pop|vpop)")
WORD = 4


class Function:
    def __init__(self, name):
        self.name, self.frame, self.calls, self.jumps = name, 0, set(), set()
        self.calls_pointers = False


def registers(operands):
    """How many registers a list like `{r4, r5-r7, lr}` or `{d8-d9}` names, in words."""
    words = 0
    for item in re.search(r"{(.*)}", operands).group(1).split(","):
        first, _, last = item.strip().partition("-")
        count = int(last[1:]) - int(first[1:]) + 1 if last else 1
        words += count * (2 if first.startswith("d") else 1)
    return words


def taken(name, operands, set_by):
    """How many bytes of stack an instruction takes; None if that cannot be told. `set_by` has, for each register, the
    instruction that was the last to name it first."""
    if name == "mov" and operands.startswith("sp, "):
        register = operands.removeprefix("sp, ")
        before = set_by.get(register, "")
        if aligned := re.fullmatch(rf"bfc {register}, #0x0, #0x(\w+)|bfc {register}, #0, #(\d+)", before):
            bits = int(aligned.group(1), 16) if aligned.group(1) else int(aligned.group(2))
            return (1 << bits) - WORD
        # The way out: back to where the frame pointer says.
        return 0 if re.match(rf"sub(\.w|s)? {register}, r7, #", before) else None
    if PUSHES.match(name) and ("push" in name or operands.startswith("sp!")):
        return WORD * registers(operands)
    if name.startswith("vpush"):
        return WORD * registers(operands)
    moved = re.match(r"^(?:sp, )?sp, #(0x[0-9a-f]+|\d+)", operands)
    if re.match(r"^sub(\.w|w|s)?$", name) and moved:
        return int(moved.group(1), 0)
    if name.startswith("str") and (pushed := re.search(r"\[sp, #-(0x[0-9a-f]+|\d+)\]!", operands)):
        return int(pushed.group(1), 0)
    if re.match(r"^(sp\b|sp!)", operands) and not HARMLESS.match(name):
        return None
    return 0


def read(image):
    """The functions of an image, by address."""
    text = subprocess.run(
        ["llvm-objdump", "--disassemble", "--demangle", "--no-show-raw-insn", image],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout
    functions, function, set_by, lower, words = {}, None, {}, {}, set()
    for line in text.splitlines():
        if head := HEAD.match(line):
            if head.group(2).startswith("$"):
                continue
            function = functions.setdefault(int(head.group(1), 16), Function(head.group(2)))
        elif function and (instruction := INSTRUCTION.match(line)):
            _, name, operands = (part.strip() for part in instruction.groups())
            bytes = taken(name, operands, set_by)
            set_by[operands.split(",")[0]] = f"{name} {operands}"
            if bytes is None:
                sys.exit(f"{function.name}: cannot tell what this does to the stack: {line.strip()}")
            function.frame += bytes
            target = re.search(r"(?:^|, )#?0x([0-9a-f]+)$", operands)
            if name.split(".")[0] in CALLS:
                if target:
                    function.calls.add(int(target.group(1), 16))
                else:
                    function.calls_pointers = True
            elif FORKS.match(name) and target:
                function.jumps.add(int(target.group(1), 16))
            elif name == "bx" and operands != "lr":
                function.calls_pointers = True
            elif constant := re.match(r"(\w+), #(0x[0-9a-f]+|\d+)$", operands):
                register, value = constant.group(1), int(constant.group(2), 0)
                if name in ("movw", "mov.w", "movs"):
                    lower[register] = value
                elif name == "movt":
                    words.add(value << 16 | lower.get(register, 0))
            elif name == ".word":
                words.add(int(operands, 0))
    # Addresses of functions are odd: they select the Thumb instructions.
    pointed = {word - 1 for word in words | constants(image) if word - 1 in functions}
    # Where no function's address stands in the image, a call through a pointer is one that is never taken: measurements,
    # in an image whose storage has no room for them.
    for function in functions.values():
        if function.calls_pointers:
            function.calls |= pointed
    return functions


def constants(image):
    """Every aligned word of the constant and the initialised memory of an image."""
    text = subprocess.run(
        ["llvm-objdump", "--full-contents", "--section=.rodata", "--section=.data", image],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout
    words = set()
    for line in text.splitlines():
        if found := re.match(r"^ [0-9a-f]+((?: [0-9a-f]{8})+)", line):
            words |= {int.from_bytes(bytes.fromhex(word), "little") for word in found.group(1).split()}
    return words


def deepest(functions, address, is_open, above=()):
    """The deepest stack from a function on, with the functions that lead there."""
    if address in above:
        if is_open:
            return 0, []
        sys.exit(f"{functions[address].name} calls itself")
    function = functions[address]
    # A jump into another function is a call that does not come back here; the frame may still be there or not.
    nexts = function.calls | {jump for jump in function.jumps if jump in functions and jump != address}
    ways = [deepest(functions, callee, is_open, (*above, address)) for callee in nexts]
    depth, way = max(ways, default=(0, []))
    return depth + function.frame, [(function.name, function.frame), *way]


def main():
    is_open = sys.argv[1] == "--open"
    image, entry = sys.argv[1 + is_open :]
    functions = read(image)
    starts = [address for address, function in functions.items() if function.name == entry]
    if len(starts) != 1:
        sys.exit(f"{image} has no function {entry}")
    depth, way = deepest(functions, starts[0], is_open)
    for name, frame in way:
        print(f"{frame:6} {name}")
    print(f"{depth:6} in all")


if __name__ == "__main__":
    main()
