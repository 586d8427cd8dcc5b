"""The one error that is shown to the user as a single line."""


class UserError(Exception):
    """Something that the user can put right; the message names the thing and the way out."""
