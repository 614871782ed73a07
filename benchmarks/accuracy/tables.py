"""The public tables, their horizons and seasons, and how each is scored.

rolling        the last horizons of each series, at the cutoffs of the run's own backtest
competition    one forecast from the end of a table, scored on the values of another
windows        every window of the test months, on standardised values (ETT)
"""

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
        season_length: Steps per season, where it can't be derived from the time stamps.
        protocol: How it is scored.
        freq: Frequency, where the time stamps alone do not tell.
        naive2: sMAPE and MASE of Naive2, to which OWA relates; None where OWA is not used.
    """

    path: str
    horizon: int
    season_length: int | None = None
    protocol: Protocol = "rolling"
    freq: str | None = None
    naive2: tuple[float, float] | None = None

    @property
    def season(self) -> int:
        """Steps per season, that of the time stamps too."""
        return self.season_length or SEASONS[self.path]

    @property
    def task(self) -> dict[str, Any]:
        """The section `task` of a config."""
        given = {"season_length": self.season_length, "freq": self.freq}
        return {"horizon": self.horizon} | {key: value for key, value in given.items() if value is not None}

    def train_file(self, data: Path) -> Path:
        """The table to train on."""
        ending = "_train" if self.protocol == "competition" else ""
        return data / f"{self.path}{ending}.parquet"

    def test_file(self, data: Path) -> Path:
        """The actual values of a competition."""
        return data / f"{self.path}_test.parquet"


#: Steps per season where the time stamps tell.
SEASONS = {
    "ett/etth1": 24,
    "ett/etth2": 24,
    "los_loop/los_loop": 288,
    "gefcom2012/load": 24,
    "gefcom2012/temperature": 24,
    "carparts/carparts": 12,
    "vic_elec/vic_elec": 48,
    "pedestrian/pedestrian": 24,
    "us_employment/us_employment": 12,
    "aus_retail/aus_retail": 12,
    "pbs/pbs": 12,
    "bank_calls/bank_calls": 288,
    "beijing_pm25/beijing_pm25": 24,
    "pjm_load/pjm_load": 24,
    "epf_short/epf_short": 24,
    "classics/airline_passengers": 12,
    "classics/melbourne_min_temp": 7,
    "classics/nyc_taxi": 48,
}

COMPETITIONS = {
    "m4_hourly": PublicTable("m4/hourly", 48, 24, "competition", naive2=(18.383, 2.395)),
    "m4_weekly": PublicTable("m4/weekly", 13, 1, "competition", naive2=(9.161, 2.777)),
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
    "etth1": PublicTable("ett/etth1", 24),
    "etth2": PublicTable("ett/etth2", 24),
    "exchange_rate": PublicTable("exchange_rate/exchange_rate", 12, 1),
    "los_loop": PublicTable("los_loop/los_loop", 12),
    "gefcom_load": PublicTable("gefcom2012/load", 168),
    "gefcom_temperature": PublicTable("gefcom2012/temperature", 168),
    "carparts": PublicTable("carparts/carparts", 12),
    "vic_elec": PublicTable("vic_elec/vic_elec", 48),
    "pedestrian": PublicTable("pedestrian/pedestrian", 24),
    "us_employment": PublicTable("us_employment/us_employment", 24),
    "aus_retail": PublicTable("aus_retail/aus_retail", 24),
    "pbs": PublicTable("pbs/pbs", 12),
    "bank_calls": PublicTable("bank_calls/bank_calls", 288, freq="5min"),
    "beijing_pm25": PublicTable("beijing_pm25/beijing_pm25", 24),
    "pjm_load": PublicTable("pjm_load/pjm_load", 24),
    "epf_short": PublicTable("epf_short/epf_short", 24),
    "m5_small": PublicTable("m5_small/m5_small", 28, 7),
    "airline_passengers": PublicTable("classics/airline_passengers", 12),
    "sunspots": PublicTable("classics/sunspots_monthly", 132, 132),
    "melbourne_temperature": PublicTable("classics/melbourne_min_temp", 30),
    "nyc_taxi": PublicTable("classics/nyc_taxi", 48),
}

#: Context and horizon of each row of the published comparison.
ETT = {
    f"{name}_{context}_{horizon}": PublicTable(f"ett/{name}", horizon, 24, "windows")
    for name in ("etth1", "etth2")
    for context, horizon in ((96, 96), (96, 192), (96, 336), (96, 720), (720, 96), (720, 720))
}

TABLES = COMPETITIONS | ROLLING | ETT
