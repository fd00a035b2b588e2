"""What `make protocol` does: fetch Kafka's jars with Maven, read the definitions in them, write the Python."""

import subprocess
import sys
from pathlib import Path

from tools.protocol import extract, generate

HERE = Path(__file__).parent
JARS = HERE / ".cache"


def main() -> int:
    for jar in JARS.glob("*.jar"):
        jar.unlink()  # of another version, perhaps
    try:
        fetch = ["mvn", "--quiet", "--batch-mode", "--file", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        subprocess.run(fetch, check=True)
    except FileNotFoundError:
        print("Maven fetches Kafka's jars: install it (Debian: apt-get install maven) and start again", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode
    return extract.main([str(jar) for jar in sorted(JARS.glob("*.jar"))]) or generate.main([])


if __name__ == "__main__":
    sys.exit(main())
