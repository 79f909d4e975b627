"""Projects for phones, built as far as it goes without the vendors' kits: JNI in a JVM, the C parts for both."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import qcompiler
from examples.phone.make import make
from qcompiler.bundle.elf import machine
from qcompiler.errors import UsageError
from qcompiler.ir.pixels import Pixels
from tests.examples.test_draw import run_of
from tests.networks import binary_cnn
from tests.targets import mach_o
from tests.targets.emulated import missing

ROOT = Path(__file__).resolve().parents[2]
JDK = Path(shutil.which("javac") or "/").resolve().parents[1] if shutil.which("javac") else None
STRICT = "-Wall -Wextra -Werror"
GREY = Pixels((10.0,), (1 / 16,), "nchw")
RGB = Pixels((120.0, 110.0, 100.0), (1 / 60, 1 / 61, 1 / 62), "nchw")
PROBE = """package org.qcompiler.example;
import java.util.Scanner;
class Probe {
    public static void main(String[] arguments) {
        System.out.println(Classifier.width() + " " + Classifier.height());
        Scanner numbers = new Scanner(System.in);
        int[] colours = new int[numbers.nextInt()];
        for (int i = 0; i < colours.length; i++) colours[i] = numbers.nextInt();
        float[] scores = Classifier.scores(colours);
        for (float score : scores) System.out.println(Integer.toUnsignedString(Float.floatToRawIntBits(score)));
        System.out.println(Classifier.likeliest(scores));
        try {
            Classifier.scores(new int[1]);
        } catch (IllegalArgumentException error) {
            System.out.println(error.getMessage());
        }
    }
}
"""

needs_jdk = pytest.mark.skipif(JDK is None, reason="missing Debian package: openjdk-17-jdk-headless")
needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="missing Debian package: cmake")
needs_linker = pytest.mark.skipif(shutil.which("lld") is None, reason="missing Debian package: lld")
needs_clang = pytest.mark.skipif(shutil.which("clang") is None, reason="missing Debian package: clang")


def run(*command: object, cwd: Path, standard_input: str = "") -> str:
    done = subprocess.run(
        [str(each) for each in command], cwd=cwd, input=standard_input, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def jni_flags() -> str:
    return f"{STRICT} -I{JDK}/include -I{JDK}/include/linux"


def built(native: Path, *options: str) -> Path:
    """The library of the app, by its own CMakeLists.txt."""
    run("cmake", "-S", native, "-B", native / "build", f"-DCMAKE_C_FLAGS={jni_flags()}", *options, cwd=native)
    run("cmake", "--build", native / "build", cwd=native)
    return native / "build" / "libclassifier.so"


@needs_jdk
@needs_cmake
@pytest.mark.parametrize("pixels", [pytest.param(GREY, marks=pytest.mark.slow), RGB], ids=["grey", "rgb"])
def test_java_gets_the_scores_of_the_network(pixels: Pixels, tmp_path: Path) -> None:
    model = ROOT / "examples" / "digits" / "model.onnx"
    source = model if pixels is GREY else binary_cnn(tmp_path / "cnn.onnx")
    trained = run_of(source, tmp_path / "run", pixels)
    make(trained, None, tmp_path / "phone", ["android"], target="x86")
    app = tmp_path / "phone" / "android" / "app" / "src" / "main"
    library = built(app / "cpp")
    (tmp_path / "Probe.java").write_text(PROBE)
    sources = [app / "java" / "org" / "qcompiler" / "example" / "Classifier.java", tmp_path / "Probe.java"]
    run("javac", "-Xlint:all", "-Werror", "-d", tmp_path / "classes", *sources, cwd=tmp_path)
    colours = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    packed = (colours.astype(np.int64) @ [65536, 256, 1]) - 2**24
    command = ["java", f"-Djava.library.path={library.parent}", "-Xcheck:jni", "-cp", "classes"]
    given = f"{packed.size} {' '.join(map(str, packed.reshape(-1)))}"
    size, *bits, likeliest, refused = run(
        *command, "org.qcompiler.example.Probe", cwd=tmp_path, standard_input=given
    ).splitlines()
    picture = Image.fromarray(colours)
    planes = np.atleast_3d(np.asarray(picture.convert("L") if pixels is GREY else picture)).transpose(2, 0, 1)
    mean, scale = (np.reshape(each, (-1, 1, 1)) for each in (pixels.mean, pixels.scale))
    image = ((planes - mean) * scale).astype(np.float32)[None]
    bundle = qcompiler.load(trained / "model.qc")
    (scores,) = bundle.run({bundle.inputs[0].name: image}).values()
    assert size == "8 8"
    np.testing.assert_array_equal(np.array(bits, np.uint32).view(np.float32), scores.reshape(-1))
    assert int(likeliest) == scores.argmax() and refused == "expected width() * height() pixels"


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The projects of the digits network for 64-bit ARM."""
    if packages := missing("aarch64"):
        pytest.skip(f"missing Debian packages: {packages}")
    folder = tmp_path_factory.mktemp("phone")
    trained = run_of(ROOT / "examples" / "digits" / "model.onnx", folder / "run", GREY)
    (folder / "names.txt").write_text("".join(f"the {digit}\n" for digit in range(10)))
    command = [sys.executable, "-m", "examples.phone.make", trained, "--labels", folder / "names.txt"]
    done = run(*command, "-o", folder / "phone", cwd=ROOT)
    assert done.startswith(f"wrote {folder}/phone/android and {folder}/phone/ios")
    return folder / "phone"


@needs_jdk
@needs_cmake
def test_the_android_library_is_whole(projects: Path) -> None:
    """With GCC's cross compiler instead of the NDK's."""
    cross = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
    cross += ["-DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc", "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,-z,defs"]
    library = built(projects / "android" / "app" / "src" / "main" / "cpp", *cross)
    assert machine(library.read_bytes()) == "aarch64"
    headers = run("readelf", "-lW", library, cwd=projects)
    assert set(re.findall(r"LOAD.* (0x\w+)$", headers, re.MULTILINE)) == {"0x4000"}
    symbols = run("aarch64-linux-gnu-nm", "-D", library, cwd=projects)
    for name in ("width", "height", "scores"):
        assert f" T Java_org_qcompiler_example_Classifier_{name}\n" in symbols
    assert "U model_" not in symbols


@needs_clang
@needs_jdk
def test_clang_accepts_the_sources_for_android(projects: Path) -> None:
    """Declarations of the C library are glibc's for the same processor."""
    native = projects / "android" / "app" / "src" / "main" / "cpp"
    flags = ["--target=aarch64-linux-android24", "-std=c11", "-isystem", "/usr/aarch64-linux-gnu/include", "-Inet"]
    run("clang", *flags, *jni_flags().split(), "-fsyntax-only", "classifier.c", "classifier_jni.c", cwd=native)


@needs_clang
@needs_linker
def test_the_ios_package_is_linked_and_computes_what_python_does(projects: Path) -> None:
    """By lld in the place of Apple's linker. Of Apple's C library two functions are declared here."""
    native = projects / "ios" / "Sources" / "CClassifier"
    (native / "declared").mkdir()
    declared = "#include <stddef.h>\nvoid *malloc(size_t);\nvoid free(void *);\n"
    (native / "declared" / "stdlib.h").write_text(declared)
    flags = ["--target=arm64-apple-ios15", "-ffreestanding", *STRICT.split(), "-isystem", "declared"]
    run("clang", *flags, "-std=c11", "-Iinclude", "-Inet", "-c", "classifier.c", cwd=native)
    assert (native / "classifier.o").read_bytes()[:4] == (0xFEEDFACF).to_bytes(4, "little"), "Mach-O of 64 bits"
    link = ["-arch", "arm64", "-platform_version", "ios", "15.0", "15.0", "-dylib", "-undefined", "dynamic_lookup"]
    run("lld", "-flavor", "darwin", *link, "-o", "app.dylib", "classifier.o", "-Lnet", "-lmodel", cwd=native)
    wanted = run("llvm-nm", "--undefined-only", "--format=just-symbols", "app.dylib", cwd=native).split()
    # what is left is Apple's C library's
    assert set(wanted) <= {
        "_malloc", "_free", "_memcpy", "_memset", "_bzero", "_sysctlbyname", "dyld_stub_binder",
        "___stack_chk_fail", "___stack_chk_guard",
    }  # fmt: skip
    # the same code gives the scores of Python, on processors with dot products and without
    picture = np.random.default_rng(2).integers(0, 256, (8, 8), dtype=np.uint8)
    bundle = qcompiler.load(projects.parent / "run" / "model.qc")
    image = ((picture - GREY.mean[0]) * GREY.scale[0]).astype(np.float32)[None, None]
    (scores,) = bundle.run({bundle.inputs[0].name: image}).values()
    for features in (True, False):
        given = np.repeat(picture[..., None], 4, axis=-1).tobytes()
        found = mach_o.run(native / "app.dylib", "classifier_run", given, scores.nbytes, features=features)
        assert found == scores.tobytes()
    (native / "user.m").write_text(
        "@import CClassifier;\nint user(void);\nint user(void) { return classifier_width(); }\n"
    )
    modules = ["-fmodules", "-fmodules-cache-path=cache", "-fmodule-map-file=include/module.modulemap"]
    run("clang", *flags, *modules, "-fsyntax-only", "user.m", cwd=native)


@needs_jdk
def test_java_of_the_app_lacks_nothing_but_android(projects: Path) -> None:
    """Which javac finds out only after it has parsed all, and before it looks at types of Android."""
    sources = sorted((projects / "android" / "app" / "src" / "main" / "java").rglob("*.java"))
    command = ["javac", "-d", str(projects / "classes"), "-XDrawDiagnostics", "-Xmaxerrs", "999", *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    kinds = set(re.findall(r": compiler\.err\.([\w.]+)", done.stderr))
    # what follows from an unknown class: its names, and its methods to override
    unknown = {"doesnt.exist", "cant.resolve", "cant.resolve.location", "cant.resolve.location.args"}
    assert kinds <= unknown | {"method.does.not.override.superclass"} and "doesnt.exist" in kinds, done.stderr
    packages = set(re.findall(r"compiler\.err\.doesnt\.exist: (\S+)", done.stderr))
    assert all(name.startswith("android.") or name == "R" for name in packages)


def test_projects_hold_names_and_the_texts_that_are_asked_for(projects: Path) -> None:
    main = projects / "android" / "app" / "src" / "main"
    names = "".join(f"the {digit}\n" for digit in range(10))
    assert (main / "assets" / "names.txt").read_text() == names
    assert (projects / "ios" / "Sources" / "Classifier" / "names.txt").read_text() == names
    strings = xml.etree.ElementTree.parse(main / "res" / "values" / "strings.xml").getroot()
    defined = {each.get("name") for each in strings}
    xml.etree.ElementTree.parse(main / "AndroidManifest.xml")
    manifest = (main / "AndroidManifest.xml").read_text()
    activity = (main / "java" / "org" / "qcompiler" / "example" / "MainActivity.java").read_text()
    asked = set(re.findall(r"@string/(\w+)", manifest)) | set(re.findall(r"R\.string\.(\w+)", activity))
    assert asked == defined


def test_what_is_no_classifier_with_these_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no model.onnx; name the directory of a run of qtrain with --deploy"):
        make(tmp_path, None, tmp_path / "phone")
    trained = run_of(ROOT / "examples" / "digits" / "model.onnx", tmp_path / "run", GREY)
    with pytest.raises(UsageError, match="there are 2 labels, the network has 10 classes"):
        make(trained, ["one", "two"], tmp_path / "phone")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
