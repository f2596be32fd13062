"""The encloser: a program of a few small processes that start the keeper's commands in sandboxes.

It is started as ``python -I -S -c``, as the keeper is, of few parts of the standard library and nothing of
wes-bridge: inside it, this package is all that there is. It knows nothing of sessions. Its processes stay,
and start a command without making one of their own first: for a quick command that, or ``bwrap``, takes
several times as long as the command.

Its standard input is the keeper's socket. A question is what the keeper was asked, with the same three
descriptors; the part for us is ``sandbox``:

- ``shows``: paths that can be seen, read-only; ``/`` is the whole machine.
- ``hides``: folders that are empty inside.
- ``binds``: pairs of a path that is there again, and whether it can be written to.
- ``stdin``: a path to read standard input from as it is there, or null. A descriptor would lead to the
  machine's file, which could be opened again by way of it, to write.
- ``network``: whether there is one. It is the same in all questions: our only argument, ``yes`` or ``no``. It
  is the one in which we were started, the machine's or another.

The answer is ``running NAME PID FIRST``: a name of ours, and the process ids, as the keeper sees them, of
the command and of process 1 of its sandbox; or ``failed ERRNO REASON``, where ERRNO is 0 if the sandbox
cannot be made. When the command and all that it started have ended, ``ended NAME CODE`` follows.

**Processes.** All are in a user namespace where our user has no rights over the machine, and in a process
namespace. Its process 1, the *holder* (``program``), dies with the keeper, and the kernel ends all others
with it. The *maker* (``maker``), its child, is where the machine's files are, and takes from them what a
command is to see. When something is mounted on the machine, the holder makes another maker, and the former
ends when its commands have.

**Cells** (``first``). A process namespace with a process 1 of ours, a *world* (``world``): what can be seen
of the machine, ``/proc``, terminals, and, where there is to be no network, a network namespace with nothing
but a loopback interface. One command at a time runs in a cell. Process 1 makes a copy of the world for it,
with shared memory and temporary files of its own, starts the command there, and goes back to its world.
When the command has ended, process 1 kills and reaps whatever is left in the namespace. That is then all of
it: every process there, made in whatever way, is a descendant of process 1 or traced by it.

**What a command could leave** for the next in its cell is process 1 and the world, and nothing else. It
cannot change the world: it has no rights over its mounts. It cannot trace process 1, end it or stop it, and
its folder in ``/proc`` is read-only. What can be changed of another process of the same user (limits,
priorities, processors), and the folder of terminals, process 1 compares; when anything differs, or anything
fails, the cell is not used again.
"""
