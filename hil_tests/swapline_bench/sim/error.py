"""What can go wrong with a simulator, each as one sentence that says what to do."""

import click

EXIT_UNAVAILABLE = 69  # as for the gateway: a port, a socket or another program is not there


class SimError(click.ClickException):
    """The simulator cannot do what was asked, because of how it was asked."""

    exit_code = 2


class UnavailableError(SimError):
    """Something outside is missing or in use: a port, a running simulator, a file."""

    exit_code = EXIT_UNAVAILABLE
