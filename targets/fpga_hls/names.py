"""Names of units: identifiers in C++ and in Verilog."""

from __future__ import annotations

RESERVED = frozenset(
    # C++
    "alignas alignof and asm auto bool break case catch char class const constexpr continue default delete do double else enum"
    " explicit export extern false float for friend goto if inline int long main mutable namespace new not nullptr operator or"
    " private protected public register return short signed sizeof static struct switch template this throw true try typedef"
    " typeid typename union unsigned using virtual void volatile wchar_t while xor qc hls std stdin stdout"
    # Verilog-2005, where not above
    " always assign begin buf casex casez cell config deassign defparam disable edge end endcase endfunction endgenerate"
    " endmodule endtask event force forever fork function generate genvar highz0 highz1 ifnone include initial inout input"
    " instance integer join large liblist library localparam macromodule medium module nand negedge nmos nor noshowcancelled"
    " output parameter pmos posedge primitive pull0 pull1 pulldown pullup real realtime reg release repeat rnmos rpmos rtran"
    " scalared small specify specparam strong0 strong1 supply0 supply1 table task time tran tri tri0 tri1 triand trior trireg"
    " uwire vectored wait wand weak0 weak1 wire wor xnor clk rst clock reset".split()
)


class Names:
    """Gives every unit an identifier of its own."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}

    def fresh(self, hint: str) -> str:
        """An identifier that resembles `hint` and was not given before; never two underscores in a row."""
        text = "_".join(part for part in "".join(c if c.isascii() and c.isalnum() else " " for c in hint).lower().split())
        text = text if text and not text[0].isdigit() else f"u{text}"
        text = f"{text}_unit" if text in RESERVED else text
        while text in self._given:
            self._given[text] += 1
            text = f"{text}_{self._given[text]}"
        self._given[text] = 0
        return text
