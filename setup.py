"""What is installed. ``properties/``, at top level for users, becomes ``recbole_ssm.properties`` in a wheel."""

from pathlib import Path

from setuptools import Extension, find_packages, setup

PROPERTIES = sorted(str(file.relative_to("properties")) for file in Path("properties").rglob("*") if file.is_file())

# RecBole 1.2.1 asks for ray<=2.6.3, which has no wheel for Python >= 3.12 and which training never needs. There RecBole
# itself is installed with --no-deps (see README.md), and this list holds everything else that it imports.
RECBOLE_WITHOUT_RAY = [
    "colorama>=0.4.4",
    "colorlog>=4.7.2",
    "plotly>=4.0.0",
    "psutil>=5.9.0",
    "scikit-learn>=0.23.2",
    "scipy>=1.6.0",
    "tabulate>=0.8.10",
    "tensorboard>=2.5.0",
    "texttable>=0.9.0",
    "thop>=0.1.1.post2207130030",
    "tqdm>=4.48.2",
]

# The ray that RecBole allows where it can be installed, 2.6.3, is of the time of these.
WITH_RAY_2_6 = [
    'numpy<2; python_version < "3.12"',
    'pyarrow<18; python_version < "3.12"',
    'setuptools<82; python_version < "3.12"',
]

# Plain C, loaded with ctypes. Where it cannot be built, everything works without it, more slowly.
NATIVE = Extension(
    "recbole_ssm.ops.native._library",
    ["recbole_ssm/ops/native/library.c"],
    depends=sorted(map(str, Path("recbole_ssm/ops/native").glob("*.h"))),
    extra_compile_args=["-O2", "-std=c11", "-fopenmp", "-fno-math-errno", "-ffp-contract=fast", "-Wno-psabi"],
    extra_link_args=["-fopenmp"],
    optional=True,
)

setup(
    ext_modules=[NATIVE],
    packages=[*find_packages(include=["recbole_ssm", "recbole_ssm.*"]), "recbole_ssm.properties"],
    package_dir={"recbole_ssm.properties": "properties"},
    package_data={"recbole_ssm.properties": PROPERTIES, "recbole_ssm.report": ["*.j2"]},
    install_requires=[
        "numpy>=1.26",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "pandas>=2.2,<3",
        "psutil>=5.9",
        "pyyaml>=5.1",
        "rich>=13",
        "scipy>=1.15",
        "threadpoolctl>=3",
        "torch>=2.6,<2.14",
        'recbole==1.2.1; python_version < "3.12"',
        *(f'{requirement}; python_version >= "3.12"' for requirement in RECBOLE_WITHOUT_RAY),
    ],
    extras_require={
        "cuda": ["mamba-ssm>=2.2.3", "causal-conv1d>=1.4", "triton>=3.0"],
        "tune": ["ray[tune]", "hyperopt>=0.2.7", *WITH_RAY_2_6],
        "test": [
            "hyperopt>=0.2.7",
            "hypothesis>=6.100",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.8",
            "transformers>=4.50,<5",
        ],
    },
)
