# Prints what the virtual environment of a release depends on. Releases for which it prints the same share one.
# A requirement that it does not know well might install files of this release: then it prints the release's own path, and
# nothing is shared.
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig

URL = r"(https?|git\+https|git\+ssh)://"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*(\s*\[[A-Za-z0-9._,\s-]*\])?"
MARKER = r"(\s*;[^/\\@]*)?"
HASHES = r"(\s+--hash[= ]\S+)*"
KNOWN = [
    NAME + r"\s*(\(?[<>=!~][^;@/\\]*)?" + MARKER + HASHES,
    NAME + r"\s*@\s*" + URL + r"\S+" + MARKER + HASHES,
    URL + r"\S+" + MARKER + HASHES,
    r"(-i|--index-url|--extra-index-url)[\s=]+https?://\S+",
    r"--(pre|no-index|require-hashes|prefer-binary)",
    r"--(no-binary|only-binary|trusted-host)[\s=]+\S+",
]
INCLUDE = r"(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)"


def share_with_none():
    print(os.environ["RELEASE_PATH"])
    sys.exit()


def read(path):
    # A file of the repository, not one that a link leads to.
    if os.path.realpath(path) != os.path.join(os.getcwd(), path) or not os.path.isfile(path):
        share_with_none()
    with open(path, "rb") as file:
        body = file.read()
    print(path, hashlib.sha256(body).hexdigest())
    try:
        return body.decode("ascii")
    except UnicodeDecodeError:
        return share_with_none()


def check_requirements(path, seen):
    if path in seen:
        return
    seen.add(path)
    text = read(path).replace("\\\r\n", " ").replace("\\\n", " ")
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        include = re.fullmatch(INCLUDE, line)
        if include:
            part = os.path.join(os.path.dirname(path), include[1])
            check_requirements(os.path.normpath(part), seen)
        # pip also takes the name of an archive, without any path.
        elif line and (os.path.isfile(line.split()[0]) or not any(re.fullmatch(known, line) for known in KNOWN)):
            share_with_none()


print(sys.executable, sysconfig.get_config_var("SOABI"))
uv = shutil.which("uv")
if uv:
    print(subprocess.run([uv, "--version"], stdout=subprocess.PIPE, check=True).stdout)
for name, value in os.environ.items():
    # A folder of the release, perhaps.
    local = name.startswith(("PIP_", "UV_")) and re.search(r"FIND_LINKS|CONSTRAINT|REQUIREMENT|OVERRIDE", name)
    if local and not all(re.match(r"/|https?://", part) for part in value.split()):
        share_with_none()
if os.path.lexists("uv.toml") or os.path.lexists("pip.conf"):
    share_with_none()
if os.path.lexists("requirements.txt"):
    check_requirements("requirements.txt", set())
elif uv and os.path.lexists("uv.lock"):
    project, lock = read("pyproject.toml"), read("uv.lock")
    sources = re.findall(r"source = \{ (\w+) = \"([^\"]*)\"", lock)
    known = {"registry": r"https?://.*", "git": r"https?://.*", "url": r"https?://.*", "virtual": r"\."}
    # With a build system the project itself is installed.
    is_known = all(re.fullmatch(known.get(kind, r"\b\B"), at) for kind, at in sources)
    if "[build-system]" in project or len(sources) != lock.count("source = ") or not is_known:
        share_with_none()
elif os.path.lexists("pyproject.toml"):
    share_with_none()
