"""Emits the encoding functions of a message: one for each struct and encoding, which appends any number of them."""

from tools.protocol.layout import function_name, letters, patterns, struct_name
from tools.protocol.lines import Lines
from tools.protocol.model import FIXED, Field, MessageDefinition, StructDefinition, Versions

_TAKEN = {"out", "items", "version", "m", "piece", "length", "tags", "content"}


def _local(field: Field) -> str:
    return f"{field.name}_" if field.name in _TAKEN else field.name


class Writer:
    """Writes one writing function."""

    def __init__(self, out: Lines, message: MessageDefinition, struct: StructDefinition) -> None:
        self._out, self._message, self._struct = out, message, struct
        self._flexible = False
        self._versions = struct.versions

    def emit(self, *, flexible: bool, versions: Versions) -> None:
        self._flexible, self._versions = flexible, versions
        out, name = self._out, function_name("write", self._message, self._struct, flexible=flexible)
        head = f"def {name}(out: bytearray, items: list[{self._struct.name}], version: int) -> None:"
        with out.block(head), out.block("for m in items:"):
            self._body()

    def _body(self) -> None:
        run: list[Field] = []
        for one in self._struct.untagged(self._versions):
            if one.is_fixed:
                run.append(one)
                continue
            condition = one.versions.condition(self._versions)
            if condition is None and self._fuses(one):
                self._out.add(f"piece = m.{one.name}.encode()")
                self._fixed(run, ("h", "len(piece)"))
                self._out.add("out += piece")
            else:
                self._fixed(run)
                self._when_present(one, condition)
            run = []
        self._fixed(run)
        if self._flexible:
            self._tags()

    def _fuses(self, field: Field) -> bool:
        """Whether the length has a fixed size and goes with the fields before it."""
        return field.type == "string" and not field.is_array and not field.nullable and not self._compact(field)

    def _compact(self, field: Field) -> bool:
        return self._flexible and not field.always_classic

    def _when_present(self, field: Field, condition: str | None) -> None:
        if condition is None:
            self._whole(field, self._versions, "out")
            return
        with self._out.block(f"if {condition}:"):
            self._whole(field, self._versions & field.versions, "out")

    def _fixed(self, run: list[Field], length: tuple[str, str] = ("", "")) -> None:
        cases = list(patterns(run, self._versions))
        if len(cases) == 1:
            self._pack(cases[0][1], length, "out")
            return
        for number, (versions, present) in enumerate(cases):
            last = number == len(cases) - 1
            if last and not present and not length[0]:
                return
            if number == 0 and len(cases) == 2 and not present and not length[0]:
                with self._out.block(f"if version < {versions.first}:"):
                    self._pack(cases[1][1], length, "out")
                return
            head = "else:" if last else f"{'el' if number else ''}if version >= {versions.first}:"
            with self._out.block(head):
                self._pack(present, length, "out")

    def _pack(self, fields: list[Field], length: tuple[str, str], out: str) -> None:
        if not fields and not length[0]:
            return
        for one in fields:
            if one.type == "uuid":
                with self._out.block(f"if len(m.{one.name}) != 16:"):
                    self._out.add(f'raise ValueError("{one.name}")')
        values = [f"m.{one.name}" for one in fields] + ([length[1]] if length[0] else [])
        self._out.add(f"{out} += {struct_name(letters(fields) + length[0])}.pack({', '.join(values)})")

    def _whole(self, field: Field, versions: Versions, out: str) -> None:
        if field.is_fixed:
            self._pack([field], ("", ""), out)
            return
        source = f"m.{field.name}"
        if not field.nullable & versions:
            if field.nullable:
                local = _local(field)
                self._out.add(f"{local} = {source}")
                with self._out.block(f"if {local} is None:"):
                    self._refuse_null(field)
                source = local
            self._value(field, source, out)
            return
        condition, local = field.nullable.condition(versions), _local(field)
        self._out.add(f"{local} = {source}")
        with self._out.block(f"if {local} is None:"):
            if condition is not None:
                with self._out.block(f"if not ({condition}):"):
                    self._refuse_null(field)
            self._null(field, out)
        with self._out.block("else:"):
            self._value(field, local, out)

    def _refuse_null(self, field: Field) -> None:
        name = f"{self._struct.name}.{field.name}"
        self._out.add(f'raise EncodeError(f"{name}: null in version {{version}}")')

    def _null(self, field: Field, out: str) -> None:
        if field.is_struct and not field.is_array and field.tag is None:
            self._out.add(f"{out}.append(255)")
        elif self._compact(field):
            self._out.add(f"{out}.append(0)")
        else:
            size = 2 if field.type == "string" and not field.is_array else 4
            self._out.add(f'{out} += b"' + "\\xff" * size + '"')

    def _value(self, field: Field, source: str, out: str) -> None:
        if field.is_struct and not field.is_array:
            if field.nullable:
                self._out.add(f"{out}.append(1)")
            self._call(field, f"[{source}]", out)
            return
        piece = source
        if not field.is_array and field.type == "string":
            self._out.add(f"piece = {source}.encode()")
            piece = "piece"
        self._length(field, f"len({piece})", out)
        if not field.is_array:
            self._out.add(f"{out} += {piece}")
        elif field.is_struct:
            self._call(field, source, out)
        elif field.type == "string":
            function = "write_compact_strings" if self._compact(field) else "write_strings"
            self._out.add(f"{function}({out}, {source})")
        elif field.type == "uuid":
            self._out.add(f"{out} += pack_uuids({source})")
        else:
            self._out.add(f'{out} += pack_numbers("{FIXED[field.type][0]}", {source})')

    def _call(self, field: Field, source: str, out: str) -> None:
        struct = self._message.struct(field.type)
        function = function_name("write", self._message, struct, flexible=self._flexible)
        self._out.add(f"{function}({out}, {source}, version)")

    def _length(self, field: Field, length: str, out: str) -> None:
        if not self._compact(field):
            letter = "h" if field.type == "string" and not field.is_array else "i"
            self._out.add(f"{out} += _{letter}.pack({length})")
            return
        self._out.add(f"length = {length} + 1")
        with self._out.block("if length < 128:"):
            self._out.add(f"{out}.append(length)")
        with self._out.block("else:"):
            is_string = field.type == "string" and not field.is_array
            self._out.add(f"{'write_string_length' if is_string else 'write_unsigned_varint'}({out}, length)")

    def _tags(self) -> None:
        tagged = self._struct.tagged(self._versions)
        if not tagged:
            self._out.add("out.append(0)")
            return
        self._out.add("tags = 0")
        for one in tagged:
            with self._out.block(f"if {self._differs(one)}:"):
                self._out.add("tags += 1")
        self._out.add("out.append(tags)")
        with self._out.block("if tags:"):
            for one in tagged:
                with self._out.block(f"if {self._differs(one)}:"):
                    self._out.add("content = bytearray()")
                    if one.nullable and one.default is None:  # null stays away
                        self._value(one, f"m.{one.name}", "content")
                    else:
                        self._whole(one, self._versions & one.versions, "content")
                    self._out.add(f"write_tagged_field(out, {one.tag}, content)")

    def _differs(self, field: Field) -> str:
        """The test for a value that is not the default; a tagged field with its default stays away from the wire."""
        condition = field.versions.condition(self._versions)
        test = self._differs_from_default(field, f"m.{field.name}")
        if field.nullable and field.default is not None:
            test = f"m.{field.name} is None or {test}"
        if condition is None:
            return test
        return f"{condition} and ({test})" if " or " in test else f"{condition} and {test}"

    def _differs_from_default(self, field: Field, source: str) -> str:
        default = field.default_expression
        if default == "None":
            return f"{source} is not None"
        if default in ("[]", "False", '""'):
            return source
        if field.is_struct:
            inner = self._message.struct(field.type).fields
            return " or ".join(self._differs_from_default(one, f"{source}.{one.name}") for one in inner)
        return f"{source} != {default}"
