"""The tasks of `invoke` in this repository: those of the package, and the benchmarks."""

from bench.task import bench
from seatrial.tasks import collection

collection.add_task(bench)
namespace = collection
