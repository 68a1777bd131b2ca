"""An agent's relay as a process of its own, to be killed. Usage: relay_agent.py DIRECTORY"""

import asyncio
import sys
from pathlib import Path

from relay_harness import channel_to
from xds_harness import NODE

from septum.node.relaying import Relaying

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    channel = channel_to(directory / "control.sock")
    asyncio.run(Relaying(NODE, f"{directory}/xds.sock", directory / "snapshot", channel).run())
