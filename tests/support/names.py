"""Names as nobody would choose them, for hypothesis: of classes, runs, files, keys."""

from hypothesis import strategies as st

HOSTILE = (
    "", " ", ".", "..", "../../x", "/etc/passwd", "C:\\temp\\x", "a/b", "a\\b", "a\0b", "a\nb", "a\r\n# b", "con",
    "NUL", "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "'><b>", '"; drop', "{{ 7*7 }}",
    "{% raw %}", "`x`", "a|b", "![x](http://other/y)", "---\nlicense: mit", "$(reboot)", "%2e%2e%2f", "%s%n", "-rf",
    "--out", "~", "蝶", "🍋", "Żółć", "e\u0301", "\u202egnp.x", "\u200b", "\x1b[31mred", "\x7f", "\ufeff", "\ufffe",
    "x" * 5000, "a = 'b' or '1' = '1", "[bold]x[/]", "[/nothing]", "__proto__", "None", "null", "1e999",
)  # fmt: skip

names = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=40))
"""Any text that UTF-8 can hold."""


def lists(least: int, most: int):
    """Several different names."""
    return st.lists(names, min_size=least, max_size=most, unique=True)
