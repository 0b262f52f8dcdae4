"""`tests.support.router_process` with the formats of `throwaway_formats` registered."""

from __future__ import annotations

import runpy

from tests.support.throwaway_formats import register

if __name__ == "__main__":
    register()
    runpy.run_module("tests.support.router_process", run_name="__main__", alter_sys=True)
