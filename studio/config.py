"""Settings, read in one place: flags first, then the environment (`STUDIO_*`), then these defaults. Frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path, user_data_path
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent
GB = 10**9  # bytes
Mode = Literal["local", "space", "kiosk"]


class Config(BaseSettings):
    """Everything that can be set from outside. Memory in MiB, disk in GB, as both are sold."""

    model_config = SettingsConfigDict(env_prefix="STUDIO_", frozen=True, extra="ignore")

    mode: Mode = Field("local", description="local: one person's machine. space: a public page. kiosk: an exhibition.")
    offline: bool = Field(False, description="Never open a connection to another machine.")
    host: str = Field("127.0.0.1", description="Address the page is served on.")
    port: int = Field(7860, ge=0, le=65535, description="Port the page is served on; 0 takes a free one.")
    home: Path = Field(
        default_factory=lambda: user_data_path("image-studio"), description="Pictures, jobs and imported models."
    )
    cache: Path = Field(
        default_factory=lambda: user_cache_path("image-studio"), description="What can be computed anew."
    )
    models: Path = Field(ROOT / "models", description="Cards and shipped weights.")
    memory_mb: int | None = Field(None, ge=64, description="RAM budget for models; half of the RAM if not given.")
    disk_gb: float = Field(30.0, gt=0, description="Disk budget for downloaded models.")
    queue: int = Field(16, ge=1, le=1000, description="How many jobs may wait.")
    prewarm: bool = Field(True, description="Get the libraries ready once the page is up.")
    accelerator: Literal["auto", "cpu"] = Field("auto", description="auto uses a GPU where one is found.")

    @property
    def disk_budget(self) -> int:
        """Bytes that downloaded models may take."""
        return round(self.disk_gb * GB)
