"""Names that would do harm where they are taken for anything but text."""

HOSTILE_CLASSES = ("</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "__proto__")
HOSTILE_IDS = (
    '=cmd()|"x"!A1',
    "two\nlines",
    "\u202eevil\u2066",
    "<b>bold</b><!--",
    "__proto__",
    'comma, "quote"',
    " space ",
    "%{x} \\u003c {{ 7 * 7 }} $x$",
    "</textarea></title>",
)
