"""The public tables, their horizons and seasons, and how each is scored.

rolling        the last horizons of each series, at the cutoffs of the run's own backtest
competition    one forecast from the end of a table, scored on the values of another
windows        every window of the test months, on standardised values (ETT)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Protocol = Literal["rolling", "competition", "windows"]


@dataclass(frozen=True)
class PublicTable:
    """A table with its protocol.

    Attributes:
        path: File below the folder of tables, without its ending.
        horizon: Steps to forecast.
        season_length: Steps per season; 1 for none.
        protocol: How it is scored.
        freq: Frequency, where the time stamps alone do not tell.
    """

    path: str
    horizon: int
    season_length: int
    protocol: Protocol = "rolling"
    freq: str | None = None

    @property
    def task(self) -> dict[str, Any]:
        """The section `task` of a config."""
        lengths = {"horizon": self.horizon, "season_length": self.season_length}
        return lengths | ({} if self.freq is None else {"freq": self.freq})

    @property
    def naive2(self) -> tuple[float, float] | None:
        """Published sMAPE and MASE of Naive2, to which OWA relates; None where OWA is not used."""
        smape, *mase = PUBLISHED.get(self.path, {}).get("Naive2", (0.0,))
        return (smape, mase[0]) if mase else None

    def train_file(self, data: Path) -> Path:
        """The table to train on."""
        ending = "_train" if self.protocol == "competition" else ""
        return data / f"{self.path}{ending}.parquet"

    def test_file(self, data: Path) -> Path:
        """The actual values of a competition."""
        return data / f"{self.path}_test.parquet"


#: sMAPE, and for M4 MASE, as the organisers of the competitions published them.
PUBLISHED: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "m4/hourly": {"SeasonalNaive": (13.912, 1.193), "Naive2": (18.383, 2.395), "Theta": (18.138, 2.455)},
    "m4/weekly": {"SeasonalNaive": (9.161, 2.777), "Naive2": (9.161, 2.777), "Theta": (9.093, 2.637)},
    "m3/yearly": {"Naive2": (17.88,), "Theta": (16.97,)},
    "m3/quarterly": {"Naive2": (9.95,), "Theta": (8.96,)},
    "m3/monthly": {"Naive2": (16.89,), "Theta": (13.89,)},
    "m3/other": {"Naive2": (6.30,), "Theta": (4.41,)},
}

COMPETITIONS = {
    "m4_hourly": PublicTable("m4/hourly", 48, 24, "competition"),
    "m4_weekly": PublicTable("m4/weekly", 13, 1, "competition"),
    "m3_yearly": PublicTable("m3/yearly", 6, 1, "competition"),
    "m3_quarterly": PublicTable("m3/quarterly", 8, 4, "competition"),
    "m3_monthly": PublicTable("m3/monthly", 18, 12, "competition"),
    "m3_other": PublicTable("m3/other", 8, 1, "competition"),
    "m1_yearly": PublicTable("m1/yearly", 6, 1, "competition"),
    "m1_quarterly": PublicTable("m1/quarterly", 8, 4, "competition"),
    "m1_monthly": PublicTable("m1/monthly", 18, 12, "competition"),
    "nn3_monthly": PublicTable("nn3/monthly", 18, 12, "competition"),
}

ROLLING = {
    "favorita": PublicTable("favorita_1000/favorita_1000", 16, 7),
    "kaggle_web_traffic": PublicTable("kaggle_web_traffic_1000/kaggle_web_traffic_1000", 59, 7),
    "etth1": PublicTable("ett/etth1", 24, 24),
    "etth2": PublicTable("ett/etth2", 24, 24),
    "exchange_rate": PublicTable("exchange_rate/exchange_rate", 12, 1),
    "los_loop": PublicTable("los_loop/los_loop", 12, 288),
    "gefcom_load": PublicTable("gefcom2012/load", 168, 24),
    "gefcom_temperature": PublicTable("gefcom2012/temperature", 168, 24),
    "carparts": PublicTable("carparts/carparts", 12, 12),
    "vic_elec": PublicTable("vic_elec/vic_elec", 48, 48),
    "pedestrian": PublicTable("pedestrian/pedestrian", 24, 24),
    "us_employment": PublicTable("us_employment/us_employment", 24, 12),
    "aus_retail": PublicTable("aus_retail/aus_retail", 24, 12),
    "pbs": PublicTable("pbs/pbs", 12, 12),
    "bank_calls": PublicTable("bank_calls/bank_calls", 288, 288, freq="5min"),
    "beijing_pm25": PublicTable("beijing_pm25/beijing_pm25", 24, 24),
    "pjm_load": PublicTable("pjm_load/pjm_load", 24, 24),
    "epf_short": PublicTable("epf_short/epf_short", 24, 24),
    "m5_small": PublicTable("m5_small/m5_small", 28, 7),
    "airline_passengers": PublicTable("classics/airline_passengers", 12, 12),
    "sunspots": PublicTable("classics/sunspots_monthly", 132, 132),
    "melbourne_temperature": PublicTable("classics/melbourne_min_temp", 30, 7),
    "nyc_taxi": PublicTable("classics/nyc_taxi", 48, 48),
}

#: Context and horizon of each row of the published comparison.
ETT = {
    f"{name}_{context}_{horizon}": PublicTable(f"ett/{name}", horizon, 24, "windows")
    for name in ("etth1", "etth2")
    for context, horizon in ((96, 96), (96, 192), (96, 336), (96, 720), (720, 96), (720, 720))
}

TABLES = COMPETITIONS | ROLLING | ETT
