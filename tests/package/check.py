#!/usr/bin/env python3
"""What the program is packaged in, against the tools that read it: image, compose files, Kubernetes, systemd, pre-commit.

    check.py PATH-TO-model-proxy

Takes the packages of requirements.txt beside this file, and git and systemd-analyze from the system, and zsh, fish and groff; no network and no daemon.
Nothing is built: instead what the Dockerfile copies, as far as .dockerignore lets it through, is laid out as in the image's
build, and everything that Cargo.toml and the sources name has to be in it. Only what docker itself would say is left out where
there is no docker.
"""
from __future__ import annotations

import glob
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Any, Callable, Iterator

import yaml

try:
    import tomllib
except ImportError:
    import tomli as tomllib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMPOSE = {"development": "docker-compose.yml", "production": "docker-compose.prod.yml"}
KUBERNETES = ["deploy/kubernetes/deployment.yaml", "deploy/kubernetes/sidecar.yaml"]
UNIT = "deploy/systemd/model-proxy.service"
HOOKS = ".pre-commit-hooks.yaml"
# What `systemd-analyze security` may find at most, of 10.
EXPOSURE_MOST = 1.5
# Read by SQLite.
OTHERS_VARIABLES = {"SQLITE_TMPDIR"}


class Bad(Exception):
    """Why a check failed."""


def need(holds: Any, why: str) -> None:
    if not holds:
        raise Bad(why)


def read(name: str) -> str:
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def found(pattern: str) -> list[str]:
    """The files of the project that a pattern matches, named from its root."""
    return [os.path.relpath(path, ROOT) for path in glob.glob(os.path.join(ROOT, pattern), recursive=True)]


def tool(name: str) -> str:
    """Where a program is: beside this Python, or on the PATH."""
    path = shutil.which(name, path=os.path.dirname(sys.executable)) or shutil.which(name)
    need(path, f"{name} is not installed")
    return str(path)


def tried(*command: str, **how: Any) -> tuple[int, str]:
    """The exit code, and all that was said."""
    how = {"cwd": ROOT, **how}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **how)
    return done.returncode, done.stdout


def run(*command: str, **how: Any) -> str:
    code, said = tried(*command, **how)
    need(code == 0, f"{shlex.join(command)} ended with {code}:\n{said}")
    return said


# --- what the files say -----------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, each as its word and the rest."""
    text = re.sub(r"(?m)^\s*#.*\n", "", read("Dockerfile")).replace("\\\n", " ")
    lines = (line.split(None, 1) for line in text.splitlines() if line.strip())
    return [(word.upper(), rest.strip()) for word, rest in lines]


def stages() -> list[list[tuple[str, str]]]:
    out: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            out.append([])
        out[-1].append((word, rest))
    return out


def image() -> dict[str, Any]:
    """What holds in the image: the last of each instruction, and all of ENV and LABEL."""
    final = stages()[-1]
    out: dict[str, Any] = {**dict(final), "ENV": {}, "LABEL": {}}
    for word, rest in final:
        if word in ("ENV", "LABEL"):
            out[word].update(pair.split("=", 1) for pair in shlex.split(rest))
    return out


def compose(which: str) -> dict[str, Any]:
    return yaml.safe_load(read(COMPOSE[which]))


def documents(kind: str) -> list[dict[str, Any]]:
    out = [d for name in KUBERNETES for d in yaml.safe_load_all(read(name)) if d["kind"] == kind]
    need(out, f"there is no {kind}")
    return out


def containers(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    pod = deployment["spec"]["template"]["spec"]
    return pod.get("initContainers", []) + pod["containers"]


def ours() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every container that is model-proxy: the name of its deployment, its pod and itself."""
    for deployment in documents("Deployment"):
        for container in containers(deployment):
            if container["name"] == "model-proxy":
                yield deployment["metadata"]["name"], deployment["spec"]["template"], container


def unit(key: str) -> list[str]:
    return re.findall(rf"(?m)^{key}=(.*)$", read(UNIT))


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {v["name"]: v.get("value", "") for v in container.get("env", [])}


# --- the image --------------------------------------------------------------------------------------------------


def dockerfile_is_in_order(_: str) -> str:
    run(tool("hadolint"), "--no-color", "--failure-threshold", "style", "Dockerfile")
    return "hadolint finds nothing"


def image_runs_as_it_should(_: str) -> str:
    has, package = image(), tomllib.loads(read("Cargo.toml"))["package"]
    need(has["FROM"].endswith(":nonroot") and has["USER"].split(":")[0].isdigit(), "the final stage runs as root")
    need(has["USER"].split(":")[0] != "0", "the final stage runs as root")
    need(json.loads(has["ENTRYPOINT"]) == [package["name"]], f"ENTRYPOINT {has['ENTRYPOINT']}")
    health = re.fullmatch(r"(?:--\S+ )+CMD (\[.*\])", has["HEALTHCHECK"])
    need(health and json.loads(health[1]) == [package["name"], "health"], f"HEALTHCHECK {has['HEALTHCHECK']}")
    need(has["VOLUME"] == has["ENV"]["XDG_STATE_HOME"], "the state directory is no volume")
    owned = [rest for word, rest in stages()[-1] if word == "COPY" and rest.endswith(f" {has['VOLUME']}")]
    need(len(owned) == 1 and f"--chown={has['USER']} " in owned[0], f"{has['VOLUME']} is not the user's own")
    for label, key in [("title", "name"), ("description", "description"), ("licenses", "license")]:
        said = has["LABEL"][f"org.opencontainers.image.{label}"]
        need(said == package[key], f"the label {label} is not what Cargo.toml says: {said}")
    return f"as {has['USER']}, with ENTRYPOINT and HEALTHCHECK, labelled as Cargo.toml says"


def ignored() -> Callable[[str], bool]:
    """Whether .dockerignore keeps a path out: the last pattern that matches it, or a directory above it, decides."""
    rules = []
    for line in read(".dockerignore").splitlines():
        if line.strip() and not line.startswith("#"):
            lets_in, pattern = line.startswith("!"), line.strip().lstrip("!").strip("/")
            tokens = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
            meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
            rules.append((re.compile("".join(meaning.get(t, re.escape(t)) for t in tokens) + "(?:/.*)?"), lets_in))

    def keeps_out(path: str) -> bool:
        last = [lets_in for rule, lets_in in rules if rule.fullmatch(path)]
        return bool(last) and not last[-1]

    return keeps_out


def dockerignore_keeps_secrets_out(_: str) -> str:
    keeps_out = ignored()
    for path in [".env", ".env.local", "config/.env", "src/.env", "config/clients/ci.json", ".git/config", "target/x", "docs/x"]:
        need(keeps_out(path), f"{path} goes into the build")
    return "no .env, no clients, nothing but what is built"


def lay_out(folder: str) -> None:
    """What the build stage has before cargo starts."""
    keeps_out = ignored()
    for word, rest in [pair for stage in stages() for pair in stage]:
        sources = [s for s in rest.split() if not s.startswith("--")]
        if word != "COPY" or "--from=" in rest:
            continue
        target = sources.pop()
        for source in sources:
            path = os.path.join(ROOT, source)
            need(os.path.exists(path), f"COPY {source}: there is no such file")
            names = [source]
            if os.path.isdir(path):
                names = [os.path.relpath(os.path.join(at, f), ROOT) for at, _, files in os.walk(path) for f in files]
            names = [n for n in names if not keeps_out(n)]
            need(names, f"COPY {source}: .dockerignore keeps it out")
            for name in names:
                # A directory's content is copied, a file goes into a target that ends in a slash.
                inside = os.path.relpath(name, source) if os.path.isdir(path) else os.path.basename(name)
                to = os.path.join(folder, target.lstrip("/"), inside)
                os.makedirs(os.path.dirname(to), exist_ok=True)
                shutil.copyfile(os.path.join(ROOT, name), to)


def targets(manifest: dict[str, Any]) -> Iterator[list[str]]:
    """For each target of Cargo.toml, the places where cargo looks for it."""
    yield [manifest.get("lib", {}).get("path", "src/lib.rs")]
    if "build" in manifest["package"]:
        yield [manifest["package"]["build"]]
    for kind, folder in [("bin", "src/bin"), ("test", "tests"), ("bench", "benches"), ("example", "examples")]:
        for target in manifest.get(kind, []):
            name = target["name"]
            yield [target["path"]] if "path" in target else [f"{folder}/{name}.rs", f"{folder}/{name}/main.rs"]


def included(source: str, text: str) -> Iterator[str]:
    """The files that a source compiles in; what a macro puts into a name is a `*`."""
    for macro in re.findall(r'include(?:_str|_bytes)?!\(\s*(concat!\([^)]*\)|"[^"]*")', text):
        parts = re.findall(r'"([^"]*)"|(\$\w+)', macro)
        yield os.path.normpath(os.path.join(os.path.dirname(source), "".join(literal or "*" for literal, _ in parts)))


def copied_files_suffice(_: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        lay_out(folder)

        def here(name: str) -> bool:
            return os.path.isfile(os.path.join(folder, name))

        for name in ["Cargo.toml", "Cargo.lock"]:
            need(here(name), f"{name} is not copied")
        wanted = list(targets(tomllib.loads(read("Cargo.toml"))))
        for places in wanted:
            need(any(map(here, places)), f"Cargo.toml names {' or '.join(places)}, which is not copied")
        need(here("deploy/pgo") and here("tests/cases/basic.txt"), "what it is built with is not copied")
        # The bench is built too: it is what the binary is optimised for.
        sources, count = [*found("src/**/*.rs"), *found("benches/**/*.rs")], 0
        for source in sources:
            need(here(source), f"{source} is not copied")
            for pattern in included(source, read(source)):
                names = found(pattern)
                need(names, f"{source} includes {pattern}, which is nowhere")
                for name in names:
                    need(here(name), f"{source} includes {name}, which is not copied")
                count += len(names)
        need(count, "no source includes anything: the search is broken")
    return f"{len(sources)} sources, {len(wanted)} targets and {count} included files are there"


# --- compose ----------------------------------------------------------------------------------------------------


def compose_files_are_in_order(_: str) -> str:
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *COMPOSE.values())
    return "both fit the compose specification"


def compose_services_are_right(_: str) -> str:
    development, production = compose("development"), compose("production")
    services = {**development["services"], "production": production["services"]["model-proxy"]}
    need(list(services) == ["model-proxy", "model-proxy-dev", "production"], f"services: {list(services)}")
    need("profiles" not in services["model-proxy"], "`docker-compose up` starts nothing")
    need(services["model-proxy-dev"]["profiles"] == ["development"], "the profile is not `development`")
    need(development["name"] != production["name"], "both files are one project, and take each other's volumes")
    has, states, published = image(), [], []
    for name, service in services.items():
        need(service["read_only"] and service["cap_drop"] == ["ALL"], f"{name} is not locked up")
        need(service["security_opt"] == ["no-new-privileges:true"], f"{name} is not locked up")
        config, state = service["volumes"]
        need(config == f"./config:{has['WORKDIR']}/config:ro", f"{name}: {config}")
        need(state.endswith(f":{has['VOLUME']}"), f"{name}: {state}")
        states.append((name == "production", state))
        (port,) = service["ports"]
        address, outside, inside = port.split(":")
        need(address == "127.0.0.1" and inside == has["EXPOSE"], f"{name}: {port}")
        published.append((name == "production", outside))
    need(len(set(states)) == len(set(published)) == len(services), "two services share a volume or a port")
    prod = services["production"]
    need(prod["env_file"] == ".env", "production starts without .env")
    metrics = prod["environment"]["MODEL_PROXY_METRICS_LISTEN"].rsplit(":", 1)[1]
    need(prod["expose"] == [metrics], f"metrics are at {metrics}, and {prod['expose']} is exposed")
    need(prod["logging"]["options"]["max-size"] and prod["deploy"]["resources"]["limits"]["memory"], "no limits")
    return "profiles, volumes, ports, privileges and limits"


def docker_reads_compose_files(_: str) -> str | None:
    docker = shutil.which("docker")
    if not docker or tried(docker, "compose", "version")[0] != 0:
        return None
    with tempfile.TemporaryDirectory() as folder:
        for name in [*COMPOSE.values(), "Dockerfile"]:
            shutil.copy(os.path.join(ROOT, name), folder)
        run(docker, "compose", "-f", COMPOSE["development"], "--profile", "development", "config", "-q", cwd=folder)
        code, _said = tried(docker, "compose", "-f", COMPOSE["production"], "config", "-q", cwd=folder)
        need(code != 0, "production is fine without .env")
        with open(os.path.join(folder, ".env"), "w", encoding="utf-8") as file:
            file.write("CLIENT_API_KEY=k\n")
        run(docker, "compose", "-f", COMPOSE["production"], "config", "-q", cwd=folder)
    return "both files, and production wants .env"


# --- Kubernetes -------------------------------------------------------------------------------------------------


def kubernetes_files_are_in_order(_: str) -> str:
    said = run(tool("kubernetes-validate"), "--strict", *KUBERNETES)
    count = said.count(" passed for resource ")
    need(count == sum(1 for name in KUBERNETES for _ in yaml.safe_load_all(read(name))), f"not all were looked at:\n{said}")
    return f"{count} resources, strictly"


def pods_are_restricted(_: str) -> str:
    """The profile `restricted` of the Pod Security Standards, and a root file system that is read only."""
    count = 0
    for deployment in documents("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        whole = pod["securityContext"]
        need(whole["runAsNonRoot"] and whole["seccompProfile"]["type"] == "RuntimeDefault", "the pod may be root")
        need(pod["automountServiceAccountToken"] is False, "the pod has a token of the cluster")
        need(pod["enableServiceLinks"] is False, "Services set variables that look like settings")
        for container in containers(deployment):
            own = container["securityContext"]
            need(own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"], container["name"])
            need(own["capabilities"] == {"drop": ["ALL"]}, container["name"])
            need({"cpu", "memory"} <= container["resources"]["requests"].keys(), container["name"])
            need("memory" in container["resources"]["limits"], container["name"])
            count += 1
    return f"{count} containers"


def pods_fit_together(_: str) -> str:
    has, doors, probes = image(), read("src/server/door.rs"), 0
    for name, pod, container in ours():
        if container in pod["spec"].get("initContainers", []):
            need(container.get("restartPolicy") == "Always", f"{name}: the sidecar would have to end before the others start")
            need("startupProbe" in container, f"{name}: the others would not wait for the sidecar")
        ports = {p["name"]: p["containerPort"] for p in container["ports"]}
        metrics = variables(container)["MODEL_PROXY_METRICS_LISTEN"]
        told = pod["metadata"]["annotations"]["prometheus.io/port"]
        need(metrics == f"0.0.0.0:{told}" and ports["metrics"] == int(told), f"{name}: metrics at {metrics} and {told}")
        need(ports.get("http", int(has["EXPOSE"])) == int(has["EXPOSE"]), f"{name}: the image listens at {has['EXPOSE']}")
        reachable = ports.keys() - ({"http"} if "127.0.0.1" in container["args"] else set())
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"]:
            if probe in container:
                get = container[probe]["httpGet"]
                need(f'("{get["path"]}", ' in doors, f"{name}: {probe} asks for {get['path']}, which is nowhere")
                need(get["port"] in reachable, f"{name}: {probe} asks at {get['port']}, which it can't reach")
                probes += 1
        volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
        mounts = {m["mountPath"]: volumes[m["name"]] for m in container["volumeMounts"]}
        need(mounts.keys() == {f"{has['WORKDIR']}/config/models", has["VOLUME"]}, f"{name} mounts {sorted(mounts)}")
        maps = [m["metadata"]["name"] for m in documents("ConfigMap")]
        need(mounts[f"{has['WORKDIR']}/config/models"]["configMap"]["name"] in maps, f"{name}: no such ConfigMap")
        secrets = [s["metadata"]["name"] for s in documents("Secret")]
        need(all(e["secretRef"]["name"] in secrets for e in container["envFrom"]), f"{name}: no such Secret")
    for deployment in documents("Deployment"):
        selected, labels = deployment["spec"]["selector"]["matchLabels"], deployment["spec"]["template"]["metadata"]["labels"]
        need(selected.items() <= labels.items(), f"{deployment['metadata']['name']} selects {selected}")
    labels = [pod["metadata"]["labels"] for _, pod, _ in ours()]
    for service in documents("Service"):
        need(service["spec"]["selector"] in labels, f"{service['metadata']['name']} selects nothing")
    return f"{probes} probes, mounts, selectors and names"


def kubernetes_configuration_is_valid(binary: str) -> str:
    """As the kubelet lays it out: files are links through a link."""
    (config_map,) = documents("ConfigMap")
    with tempfile.TemporaryDirectory() as folder:
        models = os.path.join(folder, "config", "models")
        os.makedirs(os.path.join(models, "..2026"))
        os.symlink("..2026", os.path.join(models, "..data"))
        for name, text in config_map["data"].items():
            with open(os.path.join(models, "..2026", name), "w", encoding="utf-8") as file:
                file.write(text)
            os.symlink(os.path.join("..data", name), os.path.join(models, name))
        environment = {"PATH": os.environ["PATH"], "HOME": folder}
        run(binary, "config", "validate", cwd=folder, env=environment)
        listed = run(binary, "config", "list", cwd=folder, env=environment)
        for name in config_map["data"]:
            need(re.search(rf"(?m)^{name[:-5]} ", listed), f"{name} is not among the models:\n{listed}")
    return f"{len(config_map['data'])} file, laid out as the kubelet does"


# --- systemd ----------------------------------------------------------------------------------------------------


def unit_is_in_order(binary: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(UNIT))
        with open(copy, "w", encoding="utf-8") as file:
            # Where it is to be installed, nothing is here.
            file.write(re.sub(r"(?m)^ExecStart=\S+", lambda _: f"ExecStart={binary}", read(UNIT)))
        # What is wrong with the units of this machine is not ours.
        run(tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", copy)
    return "systemd-analyze verify finds nothing"


def unit_is_locked_up(_: str) -> str:
    most = str(round(EXPOSURE_MOST * 10))
    command = [tool("systemd-analyze"), "security", "--offline=yes", "--no-pager", f"--threshold={most}", UNIT]
    said = run(*command, env={**os.environ, "LC_ALL": "C.UTF-8"})
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    need(score, said)
    need(float(score[1]) <= EXPOSURE_MOST, f"the exposure is {score[1]}:\n{said}")
    return f"systemd-analyze security: an exposure of {score[1]}, {EXPOSURE_MOST} at most"


# --- pre-commit -------------------------------------------------------------------------------------------------


def hooks_are_in_order(_: str) -> str:
    run(tool("pre-commit"), "validate-manifest", HOOKS)
    hooks = yaml.safe_load(read(HOOKS))
    yes = [*found("config/**/*.json"), "config/clients/ci.json", "config/prices.json", "proxy/config/models/team/fast.json"]
    no = ["config/models/README.md", "schemas/model.schema.json", "config/other.json", "myconfig/models/x.json", "models/x.json"]
    for hook in hooks:
        for path in yes:
            need(re.search(hook["files"], path), f"{hook['id']} leaves out {path}")
        for path in no:
            need(not re.search(hook["files"], path), f"{hook['id']} takes {path}")
    return f"{', '.join(hook['id'] for hook in hooks)}: pre-commit validate-manifest, and which files they take"


def hook_finds_a_fault(binary: str) -> str:
    """pre-commit itself, in a repository that has the hook from another, which holds nothing but the manifest."""
    git, pre_commit = tool("git"), tool("pre-commit")
    with tempfile.TemporaryDirectory() as folder:
        path = {name: os.path.join(folder, name) for name in ["bin", "home", "hooks", "work", "work/config/models"]}
        for name in path.values():
            os.makedirs(name, exist_ok=True)
        os.symlink(os.path.abspath(binary), os.path.join(path["bin"], "model-proxy"))
        environment = {
            "PATH": os.pathsep.join([path["bin"], os.path.dirname(git), os.environ["PATH"]]),
            "HOME": path["home"],
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
        }

        def write(name: str, content: Any) -> None:
            with open(os.path.join(path["work"], name), "w", encoding="utf-8") as file:
                json.dump(content, file)
            run(git, "add", name, cwd=path["work"], env=environment)

        def hook() -> tuple[int, str]:
            return tried(pre_commit, "run", "--all-files", "--color=never", cwd=path["work"], env=environment)

        shutil.copy(os.path.join(ROOT, HOOKS), path["hooks"])
        for name in ["hooks", "work"]:
            run(git, "init", "-q", cwd=path[name], env=environment)
        run(git, "add", HOOKS, cwd=path["hooks"], env=environment)
        who = ["-c", "user.name=check", "-c", "user.email=check@example.com"]
        run(git, *who, "commit", "-q", "-m", "hooks", cwd=path["hooks"], env=environment)
        revision = run(git, "rev-parse", "HEAD", cwd=path["hooks"], env=environment).strip()
        repository = {"repo": path["hooks"], "rev": revision, "hooks": [{"id": "model-proxy-config-validate"}]}
        write(".pre-commit-config.yaml", {"repos": [repository]})
        model = {"logical_name": "x", "model_routings": [{"provider": "anthropic", "model": "claude-haiku-4-5"}]}
        write("config/models/x.json", model)
        code, said = hook()
        need(code == 0 and "Passed" in said, f"a good file ended with {code}:\n{said}")
        write("config/models/x.json", {**model, "model_routings": [{"provider": "nobody", "model": "m"}]})
        code, said = hook()
        need(code == 1 and "config/models/x.json" in said, f"a file with a fault ended with {code}:\n{said}")
    return "a good file passes, a faulty one is named"


# --- shells and readers of manuals ------------------------------------------------------------------------------


def shells_read_completions(binary: str) -> str:
    """That bash completes is tested beside the program: here each shell reads its own, and zsh and fish are asked too."""
    for shell in ["bash", "zsh", "fish"]:
        text = run(binary, "completions", shell)
        run(tool(shell), "-n", "/dev/stdin", input=text)
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(binary, os.path.join(folder, "model-proxy"))
        environment = {**os.environ, "PATH": folder + os.pathsep + os.environ["PATH"], "HOME": folder}
        text = run(binary, "completions", "fish")
        for line, wanted in [
            ("db stats --by cl", "client"),
            ("config sho", "show"),
            ("comp", "completions"),
            ("help conv", "convert"),
            ("help config sho", "show"),
            ("keys test openr", "openrouter"),
            ("keys new x --model dem", "demo"),
            ("convert --model dem", "demo"),
        ]:
            said = run(tool("fish"), "-c", f"{text}\ncomplete -C 'model-proxy {line}'", env=environment, cwd=folder)
            need(said.split("\t")[0].strip() == wanted, f"fish offers {said!r} for {line!r}")
        loaded = f"autoload -U compinit && compinit -u -d {folder}/dump\n{run(binary, 'completions', 'zsh')}\nprint ${{_comps[model-proxy]}}"
        said = run(tool("zsh"), "-fc", loaded, env=environment, cwd=folder)
        need(said.strip() == "_model-proxy", f"zsh does not take it: {said}")
    return "bash, zsh and fish"


# What a model may be called by somebody who means no good, or none.
NAMES = {"pw": "pwn$(touch${IFS}PWNED)`touch PWNED`;touch PWNED", "gpt": "gpt-*", "tw": "two words", "quo": "quo\"te's"}
# How each shell is started and told of its completions.
SHELLS = {
    "bash": (["--norc", "--noprofile", "-i"], ". ./c.bash; echo READY-$((3+4))"),
    "zsh": (["-f", "-i"], "autoload -U compinit; compinit -u -d dump; . ./c.zsh; echo READY-$((3+4))"),
    "fish": (["--no-config", "-i"], "source c.fish; echo READY-(math 3 + 4)"),
}


class Terminal:
    """A shell as a person sits before it."""

    def __init__(self, command: list[str], cwd: str, env: dict[str, str]) -> None:
        self.process, self.master = pty.fork()
        if self.process == 0:
            os.chdir(cwd)
            os.execve(command[0], command, env)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def said(self, what: str, seconds: float = 20) -> str:
        """All it says until it has said that, or nothing more for so long."""
        out = ""
        try:
            while what not in out and select.select([self.master], [], [], seconds)[0]:
                out += os.read(self.master, 65536).decode(errors="replace")
        except OSError as gone:
            raise Bad(f"it has ended: {out}") from gone
        return out

    def close(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.master)


def completions_run_nothing(binary: str) -> str:
    """Each shell completes each name at a terminal, and then runs the line: the program is asked for just that name."""
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "config", "models"))
        os.makedirs(os.path.join(folder, "bin"))
        os.symlink(binary, os.path.join(folder, "bin", "model-proxy"))
        for begun, name in NAMES.items():
            with open(os.path.join(folder, "config", "models", f"{begun}.json"), "w", encoding="utf-8") as file:
                json.dump({"logical_name": name, "model_routings": [{"provider": "demo", "model": "demo"}]}, file)
        for name in ["gpt-4", "gpt-5", *[f"c.{shell}" for shell in SHELLS]]:
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(run(binary, "completions", name[2:]) if name.startswith("c.") else "")
        path = os.pathsep.join([os.path.join(folder, "bin"), os.environ["PATH"]])
        environment = {"PATH": path, "HOME": folder, "TERM": "dumb", "LC_ALL": "C.UTF-8"}
        for shell, (words, setup) in SHELLS.items():
            terminal = Terminal([tool(shell), *words], folder, environment)
            try:
                terminal.type(f"{setup}\n")
                need("READY-7" in terminal.said("READY-7"), f"{shell} does not start")
                for begun, name in NAMES.items():
                    terminal.type(f"model-proxy config show {begun}\t")
                    typed = terminal.said("(nothing in particular)", 1)
                    terminal.type("\n")
                    wanted = f'"logical_name": {json.dumps(name)}'
                    said = terminal.said(wanted)
                    need(wanted in said, f"{shell} makes of {begun!r}: {typed}\n{said}")
            finally:
                terminal.close()
            need(not os.path.exists(os.path.join(folder, "PWNED")), f"{shell} has run a name")
    return f"{len(NAMES)} names in each of {', '.join(SHELLS)}"


def manual_is_in_order(binary: str) -> str:
    """And what is to be typed stands there as it is typed, in one line."""
    page = run(binary, "man")
    code, said = tried(tool("groff"), "-man", "-ww", "-Tutf8", "-z", input=page)
    need(code == 0 and not said, f"groff finds: {said}")
    lines = {line.strip() for line in run(tool("groff"), "-man", "-Tutf8", "-P-cbou", input=page).splitlines()}
    examples = re.findall(r"(?m)^  (model-proxy .*?)(?:  .*)?$", read("docs/COMMANDS.md"))
    for example in examples:
        need(example in lines, f"the manual has not: {example}")
    return f"groff finds nothing, and {len(examples)} examples can be typed as they stand"


# --- what all of them say of the program ------------------------------------------------------------------------


def options_are_the_programs_own(binary: str) -> str:
    lines = [json.loads(image()["CMD"]), shlex.split(unit("ExecStart")[0])[1:]]
    lines += [s["command"] for which in COMPOSE for s in compose(which)["services"].values() if "command" in s]
    lines += [container["args"] for _, _, container in ours()]
    for command, *rest in lines:
        known = run(binary, command, "--help")
        for option in [word for word in rest if word.startswith("-")]:
            need(re.search(rf"(?m)^ .*{option} ", known), f"{command} has no option {option}")
    return f"{len(lines)} command lines"


def variables_are_the_programs_own(binary: str) -> str:
    names = set(image()["ENV"]) | {line.split("=")[0] for line in unit("Environment")}
    names |= compose("production")["services"]["model-proxy"]["environment"].keys()
    names |= {name for _, _, container in ours() for name in variables(container)}
    told = run(binary, "help") + read("docs/SERVER.md")
    known = {*re.findall(r"(?m)^  ([A-Z][A-Z0-9_]+) ", told), *re.findall(r"`(MODEL_PROXY_\w+)`", told), *OTHERS_VARIABLES}
    need(names <= known, f"nothing reads {', '.join(sorted(names - known))}")
    return ", ".join(sorted(names))


def all_wait_for_the_drain(binary: str) -> str:
    told = re.search(r"--drain-seconds .*\[default: (\d+)\]", run(binary, "start", "--help"))
    need(told, "start --help does not tell how long the drain is")
    seconds = int(told[1])
    waits = {"the unit": int(unit("TimeoutStopSec")[0])}
    for which in COMPOSE:
        for name, service in compose(which)["services"].items():
            waits[f"{which}: {name}"] = int(service["stop_grace_period"].rstrip("s"))
    for name, pod, container in ours():
        sleeps = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        waits[f"the pod of {name}"] = pod["spec"]["terminationGracePeriodSeconds"] - sleeps
    for who, wait in waits.items():
        need(seconds < wait, f"{who} kills after {wait} s, and open requests have {seconds} s")
    return f"open requests have {seconds} s, and nothing is killed before {min(waits.values())} s"


CHECKS: list[Callable[[str], "str | None"]] = [
    dockerfile_is_in_order,
    image_runs_as_it_should,
    dockerignore_keeps_secrets_out,
    copied_files_suffice,
    compose_files_are_in_order,
    compose_services_are_right,
    docker_reads_compose_files,
    kubernetes_files_are_in_order,
    pods_are_restricted,
    pods_fit_together,
    kubernetes_configuration_is_valid,
    unit_is_in_order,
    unit_is_locked_up,
    hooks_are_in_order,
    hook_finds_a_fault,
    shells_read_completions,
    completions_run_nothing,
    manual_is_in_order,
    options_are_the_programs_own,
    variables_are_the_programs_own,
    all_wait_for_the_drain,
]


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    binary = os.path.abspath(sys.argv[1])
    passed = failed = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            well = check(binary)
        except (Bad, KeyError, OSError, TypeError, ValueError) as why:
            failed += 1
            what = str(why) if isinstance(why, Bad) else f"{type(why).__name__}: {why}"
            print(f"FAILED {name}: " + what.rstrip().replace("\n", "\n    "))
            continue
        passed += well is not None
        print(f"ok {name}: {well}" if well else f"left out {name}: there is no `docker compose` here")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
