"""Emits the decoding functions of a message: one for each struct and encoding, which reads n of them in a row.

Neighbouring fields of a fixed size, and the length of the field behind them, are taken with one compiled `Struct`.
"""

from tools.protocol.layout import function_name, letters, patterns, size_of, smallest_size, struct_name
from tools.protocol.lines import Lines
from tools.protocol.model import FIXED, Field, MessageDefinition, StructDefinition, Versions


class Reader:
    """Writes one reading function."""

    def __init__(self, out: Lines, message: MessageDefinition, struct: StructDefinition) -> None:
        self._out, self._message, self._struct = out, message, struct
        self._flexible = False
        self._versions = struct.versions

    def emit(self, *, flexible: bool, versions: Versions) -> None:
        self._flexible, self._versions = flexible, versions
        out, name = self._out, function_name("read", self._message, self._struct, flexible=flexible)
        cls = self._struct.name
        out.add(f"def {name}(")
        out.add("    buffer: bytes, position: int, version: int, n: int, quota: list[int]")
        with out.block(f") -> tuple[list[{cls}], int]:"):
            out.add("quota[0] -= n")
            with out.block("if quota[0] < 0:"):
                out.add("raise too_many_elements()")
            body = Lines()
            self._out = body
            self._body()
            self._out = out
            if "limit" in body.text():
                out.add("limit = len(buffer)")
            out.add(f"items: list[{cls}] = []")
            with out.block("for _ in range(n):"):
                out.add(f"m = {cls}.__new__({cls})", *body.text().splitlines(), "items.append(m)")
            out.add("return items, position")

    def _body(self) -> None:
        versions = self._versions
        for one in self._struct.fields:
            if one.tag is not None or not one.versions & versions:
                self._out.add(f"m.{one.name} = {one.default_expression}")
        run: list[Field] = []
        for one in self._struct.untagged(versions):
            if one.is_fixed:
                run.append(one)
                continue
            if one.is_struct and not one.is_array and not one.nullable:
                self._fixed(run)
                self._when_present(one)
            elif one.versions.condition(versions) is None:
                self._fixed(run, self._prefix(one))
                self._content(one, versions)
            else:
                self._fixed(run)
                self._when_present(one)
            run = []
        self._fixed(run, "B" if self._flexible else "")
        if self._flexible:
            self._tags()

    def _when_present(self, field: Field) -> None:
        """A field that some versions lack, with a length of its own."""
        condition = field.versions.condition(self._versions)
        if condition is None:
            self._whole(field, self._versions)
            return
        with self._out.block(f"if {condition}:"):
            self._whole(field, self._versions & field.versions)
        with self._out.block("else:"):
            self._out.add(f"m.{field.name} = {field.default_expression}")

    def _whole(self, field: Field, versions: Versions) -> None:
        if field.is_fixed:
            self._take([field])
        elif field.is_struct and not field.is_array and not field.nullable:
            self._one_struct(field)
        else:
            self._take([], self._prefix(field))
            self._content(field, versions)

    def _prefix(self, field: Field) -> str:
        if field.is_struct and not field.is_array and field.tag is None:
            return "b"
        if self._compact(field):
            return "B"
        return "h" if self._is_string(field) else "i"

    @staticmethod
    def _is_string(field: Field) -> bool:
        return field.type == "string" and not field.is_array

    def _compact(self, field: Field) -> bool:
        return self._flexible and not field.always_classic

    def _fixed(self, run: list[Field], prefix: str = "") -> None:
        """A run of fixed-size fields, of which versions may have different ones, and a length behind them."""
        cases = list(patterns(run, self._versions))
        for number, (versions, present) in enumerate(cases):
            if len(cases) == 1:
                self._take(present, prefix)
                return
            head = "else:" if number == len(cases) - 1 else f"{'el' if number else ''}if version >= {versions.first}:"
            with self._out.block(head):
                self._take(present, prefix)
                absent = [one for one in run if one not in present]
                self._out.add(*(f"m.{one.name} = {one.default_expression}" for one in absent))

    def _take(self, fields: list[Field], prefix: str = "") -> None:
        if not fields and not prefix:
            return
        size = size_of(fields) + {"": 0, "b": 1, "B": 1, "h": 2, "i": 4}[prefix]
        if not fields and prefix == "B":
            self._out.add("length = buffer[position]")
        else:
            targets = [f"m.{one.name}" for one in fields] + (["length"] if prefix else [])
            left = ", ".join(targets) if len(targets) > 1 else f"({targets[0]},)"
            self._out.add(f"{left} = {struct_name(letters(fields) + prefix)}.unpack_from(buffer, position)")
        self._out.add(f"position += {size}")

    def _content(self, field: Field, versions: Versions) -> None:
        """What stands behind `length`."""
        out, target = self._out, f"m.{field.name}"
        if self._prefix(field) == "B":
            with out.block("if length > 127:"):
                read = "read_string_length" if self._is_string(field) else "read_unsigned_varint"
                out.add(f"length, position = {read}(buffer, position - 1)")
            null, known = "length == 0", "length - 1"
        else:
            null, known = "length < 0", "length"
        if not field.nullable & versions:
            self._value(field, known)
            return
        with out.block(f"if {null}:"):
            condition = field.nullable.condition(versions)
            if condition is not None:
                with out.block(f"if not {condition}:" if "<" not in condition else f"if not ({condition}):"):
                    out.add(f'raise unexpected_null("{field.name}", version)')
            out.add(f"{target} = None")
        with out.block("else:"):
            self._value(field, known)

    def _value(self, field: Field, length: str) -> None:
        out, target = self._out, f"m.{field.name}"
        error = f'raise bad_length("{field.name}", {length}, position)'
        if field.is_array:
            self._array(field, length)
        elif field.is_struct:
            self._one_struct(field)
        else:
            out.add(f"end = position + {length}")
            with out.block("if not position <= end <= limit:"):
                out.add(error)
            value = {"string": "buffer[position:end].decode()", "bytes": "buffer[position:end]"}
            out.add(f"{target} = {value.get(field.type, 'memoryview(buffer)[position:end]')}", "position = end")

    def _array(self, field: Field, length: str) -> None:
        out, target = self._out, f"m.{field.name}"
        if length != "length":
            out.add("length -= 1")
        size = self._element_size(field)
        with out.block(f"if not 0 <= length{f' * {size}' if size > 1 else ''} <= limit - position:"):
            out.add(f'raise bad_length("{field.name}", length, position)')
        if field.is_struct:
            struct = self._message.struct(field.type)
            function = function_name("read", self._message, struct, flexible=self._flexible)
            out.add(f"{target}, position = {function}(buffer, position, version, length, quota)")
        elif field.type == "string":
            function = "read_compact_strings" if self._compact(field) else "read_strings"
            out.add(f"{target}, position = {function}(buffer, position, length, quota)")
        else:
            if field.type == "uuid":
                out.add(f"{target} = read_uuids(buffer, position, length)")
            else:
                letter = FIXED[field.type][0]
                out.add(f'{target} = read_numbers("{letter}", buffer, position, length, quota)')
            out.add(f"position += length * {size}")

    def _element_size(self, field: Field) -> int:
        if field.is_struct:
            struct = self._message.struct(field.type)
            size = smallest_size(self._message, struct, self._versions & field.versions, flexible=self._flexible)
            if size < 1:
                raise ValueError(f"{field.type}: an element of no bytes would let a count cost nothing")
            return size
        if field.type == "string":
            return 1 if self._compact(field) else 2
        return FIXED[field.type][1]

    def _one_struct(self, field: Field) -> None:
        struct = self._message.struct(field.type)
        function = function_name("read", self._message, struct, flexible=self._flexible)
        self._out.add(f"(m.{field.name},), position = {function}(buffer, position, version, 1, quota)")

    def _tags(self) -> None:
        """Behind the byte that counts the tagged fields."""
        out, tagged = self._out, self._struct.tagged(self._versions)
        with out.block("if length:"):
            if not tagged:
                out.add("position = skip_tagged_fields(buffer, position - 1)")
                return
            out.add("length, position = read_unsigned_varint(buffer, position - 1)")
            with out.block("for _ in range(length):"):
                out.add(
                    "tag, position = read_unsigned_varint(buffer, position)",
                    "size, position = read_unsigned_varint(buffer, position)",
                    "tag_end = position + size",
                )
                with out.block("if tag_end > limit:"):
                    out.add('raise bad_length("tagged field", size, position)')
                for number, one in enumerate(tagged):
                    condition = one.versions.condition(self._versions)
                    test = f"tag == {one.tag}" + (f" and {condition}" if condition else "")
                    with out.block(f"{'el' if number else ''}if {test}:"):
                        self._whole(one, self._versions & one.versions)
                        with out.block("if position != tag_end:"):
                            out.add(f'raise bad_length("{one.name}", size, tag_end - size)')
                out.add("position = tag_end")
