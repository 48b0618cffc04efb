"""A package, for processes that tests start: a library's own `tests` in site-packages would hide a mere folder."""
