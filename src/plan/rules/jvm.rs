//! Java, Kotlin, Scala and .NET.

use super::args::{At, has, operand, operands};
use super::{Call, Shape, light, need, shape, unknown};
use crate::plan::shell::Word;
use crate::plan::verdict::{Brings, Class, Need, PlatformTie, Verdict};

/// The rules of this file.
pub(super) fn rule(call: &Call) -> Option<Verdict> {
    Some(match call.base {
        "gradle" | "gradlew" => gradle(call),
        "mvn" | "mvnw" | "mvnd" => maven(call),
        "javac" | "kotlinc" | "scalac" => javac(call),
        "ant" => {
            let names = operands(call.args, 0, &["-f", "-file", "-buildfile", "-lib", "-logger"]);
            super::native::by_target(
                call,
                names,
                &Shape {
                    ignored: true,
                    ..shape("ant", "builds")
                },
            )
        }
        "sbt" | "mill" => sbt(call),
        "scala-cli" => match operand(call.args, 0, &[]) {
            At::Word(_, sub @ ("test" | "compile" | "package")) => Shape {
                leaves: &[".scala-build"],
                files: &["-o", "--output"],
                local_if: &["--watch", "-w"],
                ..shape("scala-cli", "builds or tests")
            }
            .verdict(call, sub),
            At::Dynamic => unknown("scala-cli", "what it does is known only to the shell"),
            _ => light("scala-cli", "this form runs the program here, or is interactive"),
        },
        "dotnet" => dotnet(call),
        "msbuild" | "xbuild" => Shape {
            ignored: true,
            leaves: &["obj"],
            same_platform: true,
            ..shape("dotnet", "builds")
        }
        .verdict(call, ""),
        "lein" => match operand(call.args, 0, &[]) {
            At::Word(_, sub @ ("test" | "compile" | "uberjar" | "jar" | "check" | "eastwood")) => Shape {
                leaves: &["target"],
                outputs: &["target/*.jar"],
                ..shape("lein", "builds or tests")
            }
            .verdict(call, sub),
            At::Dynamic => unknown("lein", "what it runs is known only to the shell"),
            _ => light("lein", "this form is interactive or belongs to this machine"),
        },
        "clojure" | "clj" => clojure(call),
        _ => return None,
    })
}

/// Clojure: `-M:dev`, `-X:deploy`, `-T:build` run what an alias names, which for some names is tests by custom.
fn clojure(call: &Call) -> Verdict {
    const TESTS: [&str; 5] = ["test", "tests", "kaocha", "unit", "integration"];
    let texts = call.args.iter().filter_map(Word::text);
    let aliases: Vec<&str> = texts
        .filter(|t| ["-M", "-X", "-T"].iter().any(|o| t.starts_with(o)))
        .collect();
    if aliases
        .iter()
        .any(|a| a.split(':').skip(1).any(|name| TESTS.contains(&name)))
    {
        return shape("lein", "runs tests").verdict(call, "");
    }
    match operand(call.args, 0, &[]) {
        At::Word(..) => unknown("lein", "what Clojure runs is not known"),
        _ if !aliases.is_empty() => unknown("lein", "what a Clojure alias runs is not known"),
        At::Dynamic => unknown("lein", "what it runs is known only to the shell"),
        At::End => light("lein", "this form is interactive or belongs to this machine"),
    }
}

/// What a goal or task does.
#[derive(PartialEq)]
enum Task {
    Heavy,
    Clean,
    Local,
    Unknown,
}

fn gradle(call: &Call) -> Verdict {
    const VALUED: &[&str] = &[
        "-p",
        "--project-dir",
        "-b",
        "--build-file",
        "-c",
        "--settings-file",
        "-x",
        "--exclude-task",
        "-I",
        "--init-script",
        "--tests",
        "-g",
        "--gradle-user-home",
        "--max-workers",
        "--console",
        "--include-build",
        "--args",
    ];
    if has(
        call.args,
        &[
            "-t",
            "--continuous",
            "--stop",
            "--status",
            "--gui",
            "--debug-jvm",
            "-m",
            "--dry-run",
        ],
    ) {
        return light(
            "gradle",
            "`gradle` in this form runs until stopped or builds nothing",
        );
    }
    let Some(tasks) = operands(call.args, 0, VALUED) else {
        return unknown("gradle", "the task of `gradle` is known only to the shell");
    };
    let mut v = Shape {
        leaves: &[".gradle", "build"],
        outputs: &[
            "build/libs/**",
            "build/reports/**",
            "build/test-results/**",
            "*/build/libs/**",
            "*/build/reports/**",
            "*/build/test-results/**",
            "build/distributions/**",
            "*/build/outputs/**",
        ],
        ..shape("gradle", "builds or tests")
    }
    .verdict(call, tasks.first().unwrap_or(&""));
    v.workload.needs.push(Need {
        same_version: true,
        ..need("java")
    });
    decide(call, "gradle", &tasks, gradle_task, v)
}

fn gradle_task(task: &str) -> Task {
    let name = task.rsplit(':').next().unwrap_or(task);
    let starts = |list: &[&str]| list.iter().any(|p| name.starts_with(p));
    match name {
        "clean" => Task::Clean,
        "build" | "test" | "check" | "assemble" | "classes" | "testClasses" | "jar" | "bootJar" | "war"
        | "shadowJar" | "javadoc" | "dokkaHtml" | "detekt" | "ktlintCheck" | "spotlessCheck"
        | "integrationTest" | "jacocoTestReport" | "buildNeeded" | "buildDependents" | "lint"
        | "checkstyleMain" | "checkstyleTest" | "pmdMain" | "compile" | "verify" | "koverXmlReport"
        | "koverHtmlReport" | "installDist" | "distZip" | "distTar" | "functionalTest" => Task::Heavy,
        "run"
        | "bootRun"
        | "tasks"
        | "dependencies"
        | "wrapper"
        | "init"
        | "projects"
        | "properties"
        | "help"
        | "publish"
        | "publishToMavenLocal"
        | "install"
        | "dependencyInsight"
        | "spotlessApply"
        | "ktlintFormat"
        | "jmh"
        | "runIde" => Task::Local,
        _ if starts(&[
            "publish",
            "install",
            "uninstall",
            "deploy",
            "upload",
            "release",
            "connected",
            "push",
        ]) =>
        {
            Task::Local
        }
        _ if starts(&["compile", "assemble", "test", "lint", "bundle", "check"]) => Task::Heavy,
        _ => Task::Unknown,
    }
}

fn maven(call: &Call) -> Verdict {
    const VALUED: &[&str] = &[
        "-f",
        "--file",
        "-s",
        "--settings",
        "-pl",
        "--projects",
        "-P",
        "--activate-profiles",
        "-T",
        "--threads",
        "-D",
        "--define",
        "-rf",
        "--resume-from",
        "-l",
        "--log-file",
        "-gs",
        "-t",
    ];
    let Some(goals) = operands(call.args, 0, VALUED) else {
        return unknown("maven", "the goal of `mvn` is known only to the shell");
    };
    let mut v = Shape {
        leaves: &["target"],
        outputs: &[
            "target/*.jar",
            "target/*.war",
            "target/surefire-reports/**",
            "target/failsafe-reports/**",
            "target/site/**",
            "*/target/*.jar",
            "*/target/*.war",
            "*/target/surefire-reports/**",
        ],
        ..shape("maven", "builds or tests")
    }
    .verdict(call, goals.first().unwrap_or(&""));
    v.workload.needs.push(Need {
        same_version: true,
        ..need("java")
    });
    if goals.is_empty() {
        return light("maven", "`mvn` without a goal builds nothing");
    }
    decide(call, "maven", &goals, maven_goal, v)
}

fn maven_goal(goal: &str) -> Task {
    match goal {
        "clean" => Task::Clean,
        "test"
        | "verify"
        | "package"
        | "compile"
        | "test-compile"
        | "integration-test"
        | "validate"
        | "site"
        | "process-classes"
        | "process-resources"
        | "process-test-classes"
        | "generate-sources"
        | "prepare-package"
        | "surefire:test"
        | "failsafe:integration-test"
        | "failsafe:verify"
        | "checkstyle:check"
        | "checkstyle:checkstyle"
        | "spotbugs:check"
        | "pmd:check"
        | "jacoco:report"
        | "compiler:compile"
        | "spotless:check"
        | "javadoc:javadoc" => Task::Heavy,
        "install"
        | "deploy"
        | "spring-boot:run"
        | "quarkus:dev"
        | "exec:java"
        | "exec:exec"
        | "jetty:run"
        | "tomcat7:run"
        | "dependency:tree"
        | "dependency:resolve"
        | "dependency:go-offline"
        | "help:effective-pom"
        | "versions:set"
        | "spotless:apply"
        | "wrapper:wrapper"
        | "archetype:generate" => Task::Local,
        _ if goal.starts_with("release:") || goal.starts_with("deploy:") || goal.starts_with("versions:") => {
            Task::Local
        }
        _ => Task::Unknown,
    }
}

fn decide(call: &Call, rule: &str, names: &[&str], task: fn(&str) -> Task, heavy: Verdict) -> Verdict {
    let mut some = names.is_empty();
    for name in names {
        match task(name) {
            Task::Heavy => some = true,
            Task::Clean => {}
            Task::Local => {
                return light(
                    rule,
                    &format!("`{} {name}` acts here or runs until stopped", call.base),
                );
            }
            Task::Unknown => {
                return unknown(
                    rule,
                    &format!("`{} {name}` may do anything, deploy too", call.base),
                );
            }
        }
    }
    if !some {
        return light(rule, &format!("`{} clean` cleans", call.base));
    }
    if rule == "gradle" && names.is_empty() {
        return light(rule, "`gradle` without a task only prints");
    }
    heavy
}

fn javac(call: &Call) -> Verdict {
    let mut v = Shape {
        versioned: true,
        dirs: &["-d"],
        ..shape("javac", "compiles")
    }
    .verdict(call, "");
    if call.args.is_empty() {
        return light("javac", "it is given nothing to compile");
    }
    if v.workload.brings == Brings::Synced {
        v.workload.brings = Brings::Ignored;
    }
    v
}

fn sbt(call: &Call) -> Verdict {
    let Some(words) = operands(call.args, 0, &["-J", "-D"]) else {
        return unknown("sbt", "the task of `sbt` is known only to the shell");
    };
    // `sbt ";clean;test"`, `sbt "project core" test`
    let tasks = words.iter().flat_map(|w| w.split(';')).map(str::trim);
    let tasks: Vec<&str> = tasks
        .filter(|t| !t.is_empty() && !t.starts_with("project "))
        .collect();
    if tasks.is_empty() {
        return light("sbt", "`sbt` without a task is interactive");
    }
    let mut heavy = Shape {
        leaves: &["target", "project/target", "out"],
        outputs: &["target/scala-*/*.jar", "target/test-reports/**"],
        ..shape("sbt", "builds or tests")
    }
    .verdict(call, tasks.first().unwrap_or(&""));
    heavy.workload.needs.push(Need {
        same_version: true,
        ..need("java")
    });
    let task = |name: &str| {
        if name.starts_with('~') {
            return Task::Local;
        }
        // `sbt "testOnly x"`, `sbt core/test`, `mill app.test`
        let first = name.split_whitespace().next().unwrap_or(name);
        match first.rsplit(['/', '.', ':']).next().unwrap_or(first) {
            "test" | "testOnly" | "testQuick" | "compile" | "package" | "assembly" | "doc"
            | "scalafmtCheck" | "scalafmtCheckAll" | "coverage" | "coverageReport" | "check" => Task::Heavy,
            "clean" => Task::Clean,
            "run" | "runMain" | "console" | "publish" | "publishLocal" | "shell" | "update" | "reload"
            | "release" => Task::Local,
            _ if first.starts_with('+') => Task::Heavy,
            _ => Task::Unknown,
        }
    };
    let mut some = false;
    for name in &tasks {
        match task(name) {
            Task::Heavy => some = true,
            Task::Clean => {}
            Task::Local => {
                return light(
                    "sbt",
                    &format!("`{} {name}` acts here or runs until stopped", call.base),
                );
            }
            Task::Unknown => return unknown("sbt", &format!("`{} {name}` may do anything", call.base)),
        }
    }
    if some {
        heavy
    } else {
        light("sbt", "it only cleans")
    }
}

fn dotnet(call: &Call) -> Verdict {
    let sub = match operand(call.args, 0, &[]) {
        At::Word(_, sub) => sub,
        At::Dynamic => return unknown("dotnet", "the subcommand of `dotnet` is known only to the shell"),
        At::End => return light("dotnet", "`dotnet` alone only prints"),
    };
    let shape = Shape {
        leaves: &["obj"],
        dirs: &["-o", "--output", "--results-directory", "-r"],
        versioned: true,
        ..shape("dotnet", "builds")
    };
    let mut v = match sub {
        "build" | "msbuild" | "pack" => shape.verdict(call, sub),
        // It only fills a directory; what is done with it comes later.
        "publish" => Shape {
            does: "builds what is to be published",
            ..shape
        }
        .verdict(call, sub),
        "test" | "vstest" => {
            let shape = Shape {
                does: "compiles and runs tests",
                outputs: &["TestResults/**", "*/TestResults/**"],
                ..shape
            };
            return shape.verdict(call, sub);
        }
        _ if sub.ends_with(".dll") => return unknown("dotnet", &format!("`{sub}` may do anything")),
        _ => {
            return light(
                "dotnet",
                &format!("`dotnet {sub}` acts here or runs until stopped"),
            );
        }
    };
    if v.class == Class::Heavy {
        v.workload.brings = Brings::Ignored;
        v.workload.platform = PlatformTie::Same;
    }
    v
}
