#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves one application of a host to a release: link, options file and upgrade in one step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: einhyrningsins_release
short_description: Serve a release with einhyrningsins
description:
  - Points the link C(current) of an application at a release, writes its options file, and upgrades the master that serves
    it, or starts the unit if no master runs.
  - If the release fails, link and options file are restored, so that a restart of the unit starts the release that serves.
  - Changes nothing if the release serves already.
options:
  name:
    description: The application. Its unit is C(einhyrningsins@NAME), its options file C(/etc/einhyrningsins/NAME.conf).
    type: str
    required: true
  release:
    description: The name of the release, a directory in C(releases).
    type: str
    required: true
  root:
    description: The directory that has C(releases) and C(current). The default is C(/srv/NAME).
    type: path
  socket:
    description: The control socket of the master. The default is C(/run/einhyrningsins/NAME/einhorn.sock).
    type: path
  options:
    description: The lines of the options file. Without them, the file stays as it is.
    type: list
    elements: str
  upgrade_arguments:
    description: More arguments of C(einhyrningsinsctl upgrade), such as C(--canary 1 --soak 60).
    type: list
    elements: str
    default: []
  force:
    description: Replace the workers even if the release serves already and the options are the same.
    type: bool
    default: false
  keep:
    description: How many releases to keep. Those that the link or the master need are kept beside them. 0 keeps all.
    type: int
    default: 0
author:
  - the maintainers of einhyrningsins
"""

EXAMPLES = r"""
- name: Serve release 42
  einhyrningsins_release:
    name: web
    release: "42"
    options: ["-b :8000", "-n 4", "-m", "-t 25"]
    keep: 5
"""

RETURN = r"""
release:
  description: The release that serves now.
  type: str
  returned: always
previous:
  description: The release that served before.
  type: str
  returned: if one served
removed:
  description: Old releases that were deleted.
  type: list
  returned: if there were any
"""

import json
import os
import shutil
import signal
import time
import traceback

from ansible.module_utils.basic import AnsibleModule

# Lines of a worker's standard error, of a check or of the journal that a message shows.
LINES_MAX = 5

# Exit codes of einhyrningsinsctl, from its manual page.
NO_MASTER = 3
CONNECTION_BROKE = 4

# How long a master that systemd starts again may take to answer.
RESTART_SECONDS = 10


class Failure(Exception):
    """What went wrong, for the person who deploys."""


class Application:
    """The files, the unit and the master of one application on this host."""

    def __init__(self, module):
        wanted = module.params
        self.module = module
        self.unit = "einhyrningsins@%s.service" % wanted["name"]
        self.root = wanted["root"] or "/srv/%s" % wanted["name"]
        self.socket = wanted["socket"] or "/run/einhyrningsins/%s/einhorn.sock" % wanted["name"]
        self.options_file = "/etc/einhyrningsins/%s.conf" % wanted["name"]
        self.releases = os.path.join(self.root, "releases")
        self.current = os.path.join(self.root, "current")
        # sudo may look for programs in fewer directories than a login does.
        self.client = module.get_bin_path("einhyrningsinsctl", opt_dirs=["/usr/local/bin"])

    # The files.

    def linked(self):
        """Where the link leads, as it is written in it; None if there is no link."""
        if os.path.lexists(self.current) and not os.path.islink(self.current):
            raise Failure("%s is not a link; move it away" % self.current)
        return os.readlink(self.current) if os.path.islink(self.current) else None

    def name_of(self, directory):
        """The name of the release in this directory; the whole path if it is elsewhere."""
        if directory is None:
            return None
        directory = os.path.realpath(os.path.join(self.root, directory))
        parent, name = os.path.split(directory)
        return name if parent == os.path.realpath(self.releases) else directory

    def link(self, target):
        """Lets the link lead to the target, in one step; without a target, removes it."""
        if target is None:
            if os.path.islink(self.current):
                os.unlink(self.current)
            return
        new = os.path.join(self.root, ".current.%d" % os.getpid())
        os.symlink(target, new)
        os.replace(new, self.current)

    def options(self):
        """The text of the options file; None if there is none."""
        try:
            with open(self.options_file, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def write_options(self, text):
        """Replaces the options file in one step; without a text, removes it."""
        if text is None:
            if os.path.exists(self.options_file):
                os.unlink(self.options_file)
            return
        new = "%s.%d" % (self.options_file, os.getpid())
        with open(new, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(new, self.options_file)

    # The master.

    def ask(self, *words):
        """The last answer of the master, its exit code and what einhyrningsinsctl wrote to standard error."""
        code, output, errors = self.module.run_command([self.client, "-d", self.socket, "--json", *words])
        answer = {}
        for line in output.splitlines():
            if line.startswith("{"):
                answer = json.loads(line)
        return answer, code, errors.strip()

    def status(self):
        """The status of the master; None if none runs."""
        if self.client is None:
            return None
        answer, code, errors = self.ask("status")
        if code == NO_MASTER:
            return None
        if code != 0:
            raise Failure(answer.get("message") or errors)
        return answer

    def status_again(self):
        """The status of the master, which systemd may just start again; None if none answers in time."""
        deadline = time.monotonic() + RESTART_SECONDS
        while True:
            status = self.status()
            if status is not None or time.monotonic() > deadline:
                return status
            time.sleep(0.2)

    def held(self, status):
        """The releases that the master may still spawn workers of."""
        return {self.name_of(release["real_directory"]) for release in status["releases"]}

    def serving(self, status):
        """The name of the release that new workers get."""
        generation = status["master"]["generation"]
        for release in status["releases"]:
            if release["generation"] == generation:
                return self.name_of(release["real_directory"])
        return None


class Deploy:
    """One run: from what is on the host to what is wanted."""

    def __init__(self, module):
        self.module = module
        self.application = Application(module)
        self.release = module.params["release"]
        lines = module.params["options"]
        self.text = None if lines is None else "".join(line + "\n" for line in ["# Written by Ansible.", *lines])
        self.old_link = self.application.linked()
        self.old_text = self.application.options()
        self.status = self.application.status()
        self.previous = self.application.serving(self.status) if self.status else None

    def run(self):
        """Does what is to be done, and returns the result for Ansible."""
        self.see_release()
        step = self.next_step()
        message = "release %s serves already" % self.release
        if self.module.check_mode:
            if step:
                message = "would %s" % self.words(step)
        elif step:
            message = step()
        result = {"changed": step is not None, "msg": message, "release": self.release, "diff": self.differences()}
        if self.previous:
            result["previous"] = self.previous
        removed = [] if self.module.check_mode else self.prune()
        if removed:
            result["removed"] = removed
            result["changed"] = True
        return result

    def see_release(self):
        """Refuses a release that is not there. A check may come before anything was installed or placed."""
        if self.release in ("", ".", "..") or "/" in self.release:
            raise Failure("%r is no name of a release: it must be the name of a directory" % self.release)
        directory = os.path.join(self.application.releases, self.release)
        if self.module.check_mode:
            return
        if self.application.client is None:
            raise Failure("einhyrningsinsctl is not installed on this host; einhyrningsins_package installs it")
        if not os.path.isdir(directory):
            raise Failure("release %s is not here: %s is no directory" % (self.release, directory))

    def has_new_options(self):
        return self.text is not None and self.text != self.old_text

    def next_step(self):
        """The one thing to do; None if all is as wanted."""
        if self.status is None:
            return self.start
        if self.previous != self.release or self.has_new_options() or self.module.params["force"]:
            return self.upgrade
        if self.application.name_of(self.old_link) != self.release:
            return self.correct_link
        if self.status["master"]["version"] != self.installed_version():
            return self.reload
        return None

    def differences(self):
        """What Ansible shows with --diff."""
        link = {
            "before_header": self.application.current,
            "before": "%s\n" % (self.old_link or ""),
            "after": "releases/%s\n" % self.release,
        }
        options = {
            "before_header": self.application.options_file,
            "before": self.old_text or "",
            "after": self.text or "",
        }
        return [link, options] if self.has_new_options() else [link]

    def words(self, step):
        return {
            self.start: "start %s with release %s" % (self.application.unit, self.release),
            self.upgrade: "upgrade from release %s to %s%s"
            % (self.previous, self.release, ", with new options" if self.has_new_options() else ""),
            self.correct_link: "let %s lead to release %s, which serves" % (self.application.current, self.release),
            self.reload: "replace the master by the installed program",
        }[step]

    def installed_version(self):
        _, output, _ = self.module.run_command([self.application.client, "--version"], check_rc=True)
        return output.split()[-1]

    # The steps. Each returns a line about what it has done.

    def upgrade(self):
        self.place()
        words = ["upgrade", "--label", self.release, *self.module.params["upgrade_arguments"]]
        try:
            report, code, errors = self.application.ask(*words)
        except Exception:
            self.restore()
            raise
        if code != 0:
            raise Failure(self.failed_upgrade(report, code, errors))
        for option in report.get("options", []):
            if option["effect"] == "next_start":
                self.module.warn(
                    "%s changed in %s; it takes effect when %s is restarted, which an upgrade does not do"
                    % (option["option"], option["place"], self.application.unit)
                )
        return "release %s serves, %s of %s workers, after %s: %s" % (
            self.release, report["upgraded"], report["wanted"], self.previous, report["message"])

    def failed_upgrade(self, report, code, errors):
        """Restores what the failed upgrade needs restored, and says why it failed and what serves now."""
        reason = report.get("reason") or report.get("message") or errors or "einhyrningsinsctl exited with %d" % code
        check, death = report.get("check", {}), report.get("death", {})
        said = check.get("output") or check.get("stderr_tail") or death.get("stderr_tail") or []
        lines = ["release %s failed: %s" % (self.release, reason)]
        lines += ["  | %s" % line for line in said[-LINES_MAX:]]
        if report.get("hint"):
            lines.append("  hint: %s" % report["hint"])
        lines.append(self.after_failure("outcome" in report or code == CONNECTION_BROKE))
        return "\n".join(lines)

    def after_failure(self, has_begun):
        """Lets link and options fit the release that serves, and says which that is.

        An upgrade that was refused has changed nothing: all goes back to what it was. After any other, the master knows
        best: it may serve the new release, or a mixture if its rollback failed too.
        """
        status = self.application.status_again()
        serving = self.application.serving(status) if status else None
        if has_begun and serving == self.release:
            return "release %s serves nevertheless; %s leads to it" % (self.release, self.application.current)
        self.restore(serving if has_begun else None)
        linked = self.application.name_of(self.application.linked())
        if serving is None:
            return "no master answers; %s leads to %s" % (self.application.current, linked)
        master = status["master"]
        return "release %s serves, %s of %s workers; %s leads to %s" % (
            serving, master["up"], master["wanted"], self.application.current, linked)

    def start(self):
        self.place()
        began = int(time.time())
        code, _, errors = self.module.run_command(["systemctl", "start", self.application.unit])
        if code == 0:
            return "release %s serves, %s was started" % (self.release, self.application.unit)
        self.module.run_command(["systemctl", "stop", self.application.unit])
        self.restore()
        journal = ["journalctl", "-q", "-o", "cat", "-u", self.application.unit, "--since", "@%d" % began, "_COMM=einhyrningsins"]
        _, output, _ = self.module.run_command(journal)
        said = output.splitlines() or errors.splitlines()
        lines = ["release %s did not start; %s is stopped" % (self.release, self.application.unit)]
        lines += ["  | %s" % line for line in said[-LINES_MAX:]]
        raise Failure("\n".join(lines))

    def correct_link(self):
        self.application.link(os.path.join("releases", self.release))
        return "%s leads to release %s, which serves already" % (self.application.current, self.release)

    def reload(self):
        answer, code, errors = self.application.ask("reload")
        if code != 0:
            raise Failure("the master was not replaced: %s" % (answer.get("message") or errors))
        return answer["message"]

    # What the steps share.

    def place(self):
        """Puts link and options file in place."""
        try:
            if self.has_new_options():
                self.application.write_options(self.text)
            self.application.link(os.path.join("releases", self.release))
        except OSError:
            self.restore()
            raise

    def restore(self, serving=None):
        """Puts the options file back as it was, and the link, or lets that lead to the release that serves."""
        target = self.old_link
        if serving and os.path.isdir(os.path.join(self.application.releases, serving)):
            target = os.path.join("releases", serving)
        self.application.link(target)
        if self.has_new_options():
            self.application.write_options(self.old_text)

    def prune(self):
        """Deletes old releases, and returns their names. Those placed last are kept, and those that are needed."""
        keep = self.module.params["keep"]
        if keep <= 0:
            return []
        status = self.application.status_again()
        if status is None:
            return []
        needed = self.application.held(status) | {self.release}
        with os.scandir(self.application.releases) as entries:
            found = [entry for entry in entries if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")]
        # The change time of a directory is when it got its name, whatever times its archive has.
        found.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_ctime, reverse=True)
        removed = [entry for entry in found[keep:] if entry.name not in needed]
        for entry in removed:
            shutil.rmtree(entry.path)
        return [entry.name for entry in removed]


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "release": {"type": "str", "required": True},
            "root": {"type": "path"},
            "socket": {"type": "path"},
            "options": {"type": "list", "elements": "str"},
            "upgrade_arguments": {"type": "list", "elements": "str", "default": []},
            "force": {"type": "bool", "default": False},
            "keep": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    # If the connection breaks, the upgrade continues in the master. This continues too, to restore the link if it fails.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        module.exit_json(**Deploy(module).run())
    except Failure as failure:
        module.fail_json(msg=str(failure))
    except (OSError, ValueError, KeyError) as error:
        module.fail_json(msg="%s: %s" % (type(error).__name__, error), exception=traceback.format_exc())


if __name__ == "__main__":
    main()
