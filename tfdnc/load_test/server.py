"""An embedded server for a benchmark, in a process of its own, with a temporary model base path."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import grpc

from tfdnc.contracts.bundle import MODEL_NAME
from tfdnc.contracts.errors import UserError

START_SECONDS = 300.0
"""Time limit for the start of a server, and for a new version."""

_POLL_SECONDS = 0.02


class ServerProcess:
    """A server of one version, and of the versions that are published to it later.

    It is a context manager, which ends the process and removes the base path.

    Args:
        version: folder of the version; the base path holds links to it.
        flags: further flags of `python -m serving`.

    Attributes:
        base_path: folder that the server watches for new versions.
        target: `host:port` of gRPC.
        rest_target: `host:port` of REST.

    Raises:
        UserError: it does not start; the text has the end of its log.
    """

    def __init__(self, version: Path, flags: Sequence[str] = ()) -> None:
        self._source = version.resolve()
        self.base_path = Path(tempfile.mkdtemp())
        self.version = 0
        ports = _free_ports(2)
        self.target, self.rest_target = (f"127.0.0.1:{port}" for port in ports)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
        try:
            self._add_version()
            command = [sys.executable, "-m", "serving", f"--model_base_path={self.base_path}", *flags]
            command += [f"--model_name={MODEL_NAME}", f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
            self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)
            self.wait_until_served(self.version)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_process"):
            self._process.kill()
            self._process.wait()
        self._log.close()
        shutil.rmtree(self.base_path)

    def publish(self) -> None:
        """Replaces the version by the same one under the next number, and waits until the server has done so.

        Raises:
            UserError: the server does not serve the new version.
        """
        old = self.version
        self._add_version()
        self.wait_until_served(self.version)
        (self.base_path / str(old)).unlink()

    def memory(self) -> float:
        """Returns the resident memory of the process in MB, from Linux's `/proc`."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise UserError(f"Expected the server to live, but it ended: {self._end_of_log()}")

    def _add_version(self) -> None:
        self.version += 1
        (self.base_path / str(self.version)).symlink_to(self._source)

    def wait_until_served(self, version: int) -> None:
        """Waits until a version is available, and all others have ended.

        Raises:
            UserError: the server does not serve it.
        """
        from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc  # imports TensorFlow

        request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": MODEL_NAME})
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        end = get_model_status_pb2.ModelVersionStatus.END
        give_up = time.monotonic() + START_SECONDS
        with grpc.insecure_channel(self.target) as channel:
            service = model_service_pb2_grpc.ModelServiceStub(channel)
            while time.monotonic() < give_up and self._process.poll() is None:
                try:
                    answer = service.GetModelStatus(request, timeout=10)
                except grpc.RpcError as error:
                    if error.code() != grpc.StatusCode.UNAVAILABLE:
                        raise
                else:
                    states = {status.version: status.state for status in answer.model_version_status}
                    if states.pop(version, None) == available and set(states.values()) <= {end}:
                        return
                time.sleep(_POLL_SECONDS)
        raise UserError(
            f"Expected the server to serve version {version} after at most {START_SECONDS:.0f} s, it did not: "
            f"{self._end_of_log()}"
        )

    def _end_of_log(self) -> str:
        self._log.seek(0)
        return "".join(self._log.readlines()[-5:]).strip() or "it said nothing"


def _free_ports(count: int) -> list[int]:
    """Returns unused ports, because not every server chooses one for port 0."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
