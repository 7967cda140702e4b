"""One file of the CFTC's through ``cot_reports``, unpacked into the working directory.

`etl.sources.cftc_download` runs this file as a script, in a process and an empty folder of its
own, since the package unpacks whatever it is sent into the working directory, waits for ever, and
takes any answer for a zip.  The last line of the output says how it went: a word and a detail.
"""

from __future__ import annotations

import resource
import sys
import zipfile
import zlib

_SECONDS = (10.0, 60.0)  # to connect, and between bytes
_MAX_FILE_BYTES = 1 << 29

#: Years up to this one come in one zip.
_LAST_YEAR_OF_HISTORY = 2016


def main(report: str, year: int) -> str:
    """Unpack the text of a report's year and return how that went.

    Parameters
    ----------
    report : str
        ``cot_reports``' name of the report, such as ``disaggregated_fut``.
    year : int
        From 2006 on; those up to 2016 come as one text.

    Returns
    -------
    str
        ``done``, ``http`` and the status, ``network`` and the kind of failure, or ``answer`` and
        what is wrong with it.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
    import cot_reports
    import requests

    get = requests.get
    answers: list[requests.Response] = []

    def checked(url: str) -> requests.Response:
        """What the package calls to download: with time-outs, and failing on a status."""
        answers.append(get(url, timeout=_SECONDS))
        answers[-1].raise_for_status()
        return answers[-1]

    requests.get = checked  # type: ignore[assignment]
    try:
        if year > _LAST_YEAR_OF_HISTORY:
            cot_reports.cot_year(year, report, verbose=False)
        else:
            cot_reports.cot_hist(report, verbose=False)
    except requests.HTTPError:
        return f"http {answers[-1].status_code}"
    except requests.RequestException as error:
        return f"network {type(error).__name__}"
    except zipfile.BadZipFile:
        what = (
            "is an HTML page" if answers[-1].content.lstrip()[:1] == b"<" else "is not a whole zip"
        )
        return f"answer {what}"
    except FileNotFoundError as error:
        return f"answer holds no {error.filename}"
    except (OSError, ValueError, RuntimeError, zlib.error) as error:
        return f"answer cannot be unpacked and read ({type(error).__name__})"
    return "done"


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2])))
