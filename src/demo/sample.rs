//! The project of the demo: small but real, in the language that this machine can test.

use std::env;

/// A project and what the demo does with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// What it is, in a few words.
    pub what: &'static str,
    /// Its files: path and content.
    pub files: &'static [(&'static str, &'static str)],
    /// What runs its tests; words apart by one blank. They print `$HOME`.
    pub command: &'static str,
    /// Whether a rule calls that heavy.
    pub heavy: bool,
    /// What the tests write.
    pub report: &'static str,
    /// A file, a text in it, and a wrong one that makes a test print FAIL.
    pub edit: (&'static str, &'static str, &'static str),
}

impl Sample {
    /// The best one that this machine can run.
    pub fn choose() -> Sample {
        match (has("make"), has("cc"), has("python3")) {
            (true, true, _) => C,
            (_, _, true) => PYTHON,
            _ => SHELL,
        }
    }
}

fn has(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|p| env::split_paths(&p).any(|dir| dir.join(program).is_file()))
}

const C: Sample = Sample {
    what: "A small C library with a Makefile and tests",
    files: &[
        (".gitignore", "/build/\n"),
        (
            "Makefile",
            "test: build/test\n\t@echo \"testing in $$HOME\"\n\tbuild/test > test-report.txt; status=$$?; cat test-report.txt; exit $$status\n\n\
             build/test: src/roman.c src/roman.h tests/test.c\n\tmkdir -p build\n\tcc -Wall -Isrc -o $@ src/roman.c tests/test.c\n",
        ),
        (
            "src/roman.h",
            "/* Writes n (1..3999) as a Roman number into out, which holds 16 bytes. */\nvoid roman(int n, char *out);\n",
        ),
        (
            "src/roman.c",
            "#include \"roman.h\"\n#include <string.h>\n\n\
             static const struct { int value; const char *text; } steps[] = {\n    \
             {1000, \"M\"}, {900, \"CM\"}, {500, \"D\"}, {400, \"CD\"}, {100, \"C\"}, {90, \"XC\"}, {50, \"L\"},\n    \
             {40, \"XL\"}, {10, \"X\"}, {9, \"IX\"}, {5, \"V\"}, {4, \"IV\"}, {1, \"I\"},\n};\n\n\
             void roman(int n, char *out) {\n    *out = 0;\n    for (int i = 0; n > 0; i++)\n        \
             for (; n >= steps[i].value; n -= steps[i].value) strcat(out, steps[i].text);\n}\n",
        ),
        (
            "tests/test.c",
            "#include \"roman.h\"\n#include <stdio.h>\n#include <string.h>\n\n\
             static int check(int n, const char *wanted) {\n    char got[16];\n    roman(n, got);\n    \
             int ok = strcmp(got, wanted) == 0;\n    printf(\"%s %d is %s\\n\", ok ? \"ok  \" : \"FAIL\", n, got);\n    return !ok;\n}\n\n\
             int main(void) {\n    return check(4, \"IV\") + check(1999, \"MCMXCIX\") + check(3888, \"MMMDCCCLXXXVIII\") > 0;\n}\n",
        ),
    ],
    command: "make test",
    heavy: true,
    report: "test-report.txt",
    edit: ("src/roman.c", "{4, \"IV\"}", "{4, \"IIII\"}"),
};

const PYTHON: Sample = Sample {
    what: "A small Python module with unit tests",
    files: &[
        (
            "pyproject.toml",
            "[project]\nname = \"roman\"\nversion = \"0.1.0\"\n",
        ),
        (".gitignore", "__pycache__/\n"),
        (
            "roman.py",
            "STEPS = [(1000, 'M'), (900, 'CM'), (500, 'D'), (400, 'CD'), (100, 'C'), (90, 'XC'), (50, 'L'),\n         \
             (40, 'XL'), (10, 'X'), (9, 'IX'), (5, 'V'), (4, 'IV'), (1, 'I')]\n\n\n\
             def roman(n):\n    text = ''\n    for value, letters in STEPS:\n        text += letters * (n // value)\n        n %= value\n    return text\n",
        ),
        (
            "test_roman.py",
            "import os\nimport unittest\n\nfrom roman import roman\n\n\nclass Roman(unittest.TestCase):\n    \
             def test_numbers(self):\n        print('testing in', os.environ['HOME'], flush=True)\n        \
             with open('test-report.txt', 'w') as report:\n            \
             for n, wanted in [(4, 'IV'), (1999, 'MCMXCIX'), (3888, 'MMMDCCCLXXXVIII')]:\n                \
             report.write(f'{n} is {roman(n)}\\n')\n                self.assertEqual(roman(n), wanted)\n",
        ),
    ],
    command: "python3 -m unittest",
    heavy: true,
    report: "test-report.txt",
    edit: ("roman.py", "(4, 'IV')", "(4, 'IIII')"),
};

const SHELL: Sample = Sample {
    what: "A small shell script with a test (neither make with a C compiler nor python3 is installed here)",
    files: &[
        (".cx.toml", ""),
        ("double.sh", "#!/bin/sh\necho $(($1 * 2))\n"),
        (
            "test.sh",
            "#!/bin/sh\necho \"testing in $HOME\"\ngot=$(sh double.sh 21)\necho \"21 doubled is $got\" > test-report.txt\n\
             if [ \"$got\" = 42 ]; then echo ok; else echo FAIL; exit 1; fi\n",
        ),
    ],
    command: "sh test.sh",
    heavy: false,
    report: "test-report.txt",
    edit: ("double.sh", "* 2", "* 3"),
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    #[test]
    fn every_sample_passes_and_fails_after_its_edit() {
        for sample in [C, PYTHON, SHELL] {
            let mut words = sample.command.split(' ');
            let program = words.next().unwrap();
            if !has(program) || (program == "make" && !has("cc")) {
                continue;
            }
            let args: Vec<_> = words.collect();
            let dir = tempfile::tempdir().unwrap();
            for (path, text) in sample.files {
                fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
                fs::write(dir.path().join(path), text).unwrap();
            }
            let run = || {
                let out = Command::new(program)
                    .args(&args)
                    .current_dir(dir.path())
                    .env("HOME", "/a/home")
                    .output()
                    .unwrap();
                (
                    out.status.success(),
                    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned(),
                )
            };
            let (ok, text) = run();
            assert!(
                ok && text.contains("/a/home") && !text.contains("FAIL"),
                "{sample:?}: {text}"
            );
            assert!(dir.path().join(sample.report).exists());

            let (file, right, wrong) = sample.edit;
            let old = fs::read_to_string(dir.path().join(file)).unwrap();
            let new = old.replace(right, wrong);
            assert_ne!(old, new);
            fs::write(dir.path().join(file), new).unwrap();
            // Make and Python compare whole seconds or mtimes: the edit must be newer than what was made before.
            let later = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
            fs::File::options()
                .write(true)
                .open(dir.path().join(file))
                .unwrap()
                .set_modified(later)
                .unwrap();
            let (ok, text) = run();
            assert!(!ok && text.contains("FAIL"), "{sample:?}: {text}");
        }
    }
}
