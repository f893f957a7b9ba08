"""Every action of the chat with its key: one table for the help, the command palette and the key line."""

from __future__ import annotations

from typing import NamedTuple


class Action(NamedTuple):
    """One thing that can be done."""

    name: str
    """The Textual action, run on the chat screen; empty for what only a key does."""
    binding: str
    """Textual's name of the key; empty where the prompt handles it itself."""
    keys: str
    """The key as a person reads it."""
    title: str
    help: str


ACTIONS: tuple[Action, ...] = (
    Action("", "", "Enter", "Send", "While a model loads, it waits for it"),
    Action("", "", "^J", "New line", "Shift+Enter or Alt+Enter, where these arrive"),
    Action("", "", "Up  Down", "Earlier prompts", "In an empty prompt: what was asked before"),
    Action("stop", "escape", "Esc", "Stop", "The reply, which is kept; or cancel a load"),
    Action("answer_again", "ctrl+r", "^R", "Answer again", "Ask the last question once more"),
    Action("new_conversation", "ctrl+n", "^N", "New conversation", "The present one stays stored"),
    Action("conversations", "f4", "F4", "Conversations", "Open an earlier one, begin one, delete one"),
    Action("profiles", "f2", "F2", "Profiles", "Switch, and see before what it would change"),
    Action("take_profile", "ctrl+t", "^T", "Changed profile", "Take it, after its file was edited outside"),
    Action("back", "ctrl+g", "^G", "Former profile", "Back to the one before; once more returns"),
    Action("release", "f10", "F10", "Give memory back", "Lets go of the model until the next message"),
    Action("open_model", "ctrl+o", "^O", "Open a model", "Of those on this machine, from the hub, or by its path"),
    Action("gauges", "f3", "F3", "Gauges", "Up, Down choose one; ? explains; Esc goes back"),
    Action("monitor", "f5", "F5", "Monitor", "Every process of the box that holds a model"),
    Action("details", "", "F3 D", "Details", "Why the last reply was as fast as it was"),
    Action("curve", "", "F3 C", "Memory curve", "Decode rate against memory for this model"),
    Action("tune", "f6", "F6", "Tune", "Settings that make this model faster here, measured"),
    Action("operators", "f7", "F7", "Profile operators", "The next token node by node; slows that one"),
    Action("flame", "f8", "F8", "Flame graph", "Where the engine's time goes, by function"),
    Action("page_up", "pageup", "PageUp", "Scroll up", "A reply that comes does not pull it down"),
    Action("page_down", "pagedown", "PageDown", "Scroll down", "Towards the end of the conversation"),
    Action("follow", "end", "End", "Follow the reply", "Back to the end of the conversation"),
    Action("next_theme", "f9", "F9", "Next theme", "Other colours; it is remembered"),
    Action("", "", "Mouse", "Select text", "Drag with the mouse, then ^C copies"),
    Action("app.command_palette", "", "^P", "Commands", "Every action by its name"),
    Action("app.suspend_process", "", "^Z", "Suspend", "Back to the shell; fg returns"),
    Action("help", "f1", "F1", "Help", "All keys"),
    Action("app.quit", "", "^Q", "Quit", "The conversation is stored"),
)
