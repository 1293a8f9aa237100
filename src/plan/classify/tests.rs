//! Tables of commands and what they are judged to be.

mod agents;
mod spellings;

use proptest::prelude::*;

use super::*;
use crate::plan::verdict::{Brings, PlatformTie, Workload};

/// The first command of `text`.
fn first(text: &str) -> Verdict {
    let judged = classify_script(text, Dialect::Bash, &Context::default());
    let judged = judged.unwrap_or_else(|e| panic!("{text}: {e}"));
    judged
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("{text}: no command"))
        .verdict
}

/// Checks rows of `class rule | command` and reports all that are wrong.
fn check(table: &str) {
    let mut wrong = Vec::new();
    for line in table
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with("//"))
    {
        let (want, command) = line
            .split_once(" | ")
            .unwrap_or_else(|| panic!("row without ` | `: {line}"));
        let (class, rule) = want.trim().split_once(' ').unwrap_or((want.trim(), ""));
        let v = first(command);
        let got = format!("{:?}", v.class).to_lowercase();
        if got != class || v.rule != rule.trim() {
            wrong.push(format!(
                "{command}\n    want {class} {rule}\n    got  {got} {} ({})",
                v.rule, v.reason
            ));
        }
        if v.reason.is_empty() || v.reason.ends_with('.') || v.reason.contains('\n') {
            wrong.push(format!("{command}\n    odd reason: {:?}", v.reason));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} rows are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn make_and_its_kin() {
    check(
        "
        heavy make | make
        heavy make | make all
        heavy make | make -j8
        heavy make | make -j 8 test
        heavy make | make -j $(nproc)
        heavy make | make -j$(nproc)
        heavy make | make -j$(nproc) all
        heavy make | make -j\"$N\" test
        heavy make | make --jobs=${N}
        unknown make | make -j$(nproc) $T
        light make | make -j$(nproc) install
        heavy make | make -C sub check
        heavy make | make -Csub check
        heavy make | make --directory=sub
        heavy make | make -sj4 CC=clang lint
        heavy make | make -f build.mk build
        heavy make | make test-unit
        heavy make | make test_unit
        heavy make | make build-wheel
        heavy make | make check-style
        heavy make | make docs
        heavy make | make html
        heavy make | make typecheck
        heavy make | make coverage
        heavy make | make clean all
        heavy make | gmake dist
        heavy make | /usr/bin/make test
        heavy make | make -k test VERBOSE=1
        heavy make | make -B
        unknown make | make frobnicate
        unknown make | make $TARGET
        unknown make | make all frobnicate
        unknown make | make out/foo.o
        unknown make | make ci
        light make | make -n
        light make | make -nB all
        light make | make --dry-run all
        light make | make -q
        light make | make install
        light make | make clean
        light make | make run
        light make | make deploy
        light make | make publish
        light make | make release
        light make | make push
        light make | make start
        light make | make dev
        light make | make serve
        light make | make watch
        light make | make test-watch
        light make | make docker-build
        light make | make build-image
        light make | make all install
        light make | make help
        light make | make --version
        light make | make -v
        light make | make -h
        light make | make --help
        heavy ninja | ninja
        heavy ninja | ninja -C build
        heavy ninja | ninja -C out/Release chrome/test.o
        heavy ninja | ninja -C build test
        heavy ninja | ninja -v
        light ninja | ninja -t clean
        light ninja | ninja -C build install
        light ninja | ninja -n
        light ninja | ninja --version
        heavy cmake | cmake --build build
        heavy cmake | cmake --build build -j4 --target all
        heavy cmake | cmake --build . --target test
        heavy cmake | cmake --build build --target foo
        light cmake | cmake --build build --target install
        light cmake | cmake --install build
        heavy cmake | cmake -S . -B build
        heavy cmake | cmake -B build -G Ninja -DCMAKE_BUILD_TYPE=Release
        heavy cmake | cmake ..
        heavy cmake | cmake --preset default
        light cmake | cmake -E copy a b
        light cmake | cmake -P x.cmake
        light cmake | cmake --version
        light cmake | cmake
        heavy ctest | ctest
        heavy ctest | ctest -V
        heavy ctest | ctest --test-dir build --output-on-failure -j8
        light ctest | ctest -N
        light ctest | ctest --version
        heavy meson | meson compile -C build
        heavy meson | meson test -C build
        heavy meson | meson setup build
        light meson | meson install -C build
        light meson | meson test --benchmark
        unknown meson | meson
        heavy scons | scons
        heavy scons | scons -j4 build
        light scons | scons -c
        unknown scons | scons frob
        heavy just | just
        heavy just | just test
        heavy just | just test foo bar
        heavy just | just build-docs
        heavy just | just -f x/justfile lint
        light just | just deploy
        light just | just --list
        unknown just | just codegen
        heavy task | task build
        unknown task | task frob
        heavy task | mage test
        light task | mage
        heavy rake | rake
        heavy rake | rake test
        heavy rake | rake spec
        light rake | rake db:migrate
        unknown rake | rake frob
        ",
    );
}

#[test]
fn compilers() {
    check(
        "
        heavy gcc | gcc -c a.c
        heavy gcc | gcc -O2 -o app a.c b.c -lm
        heavy gcc | gcc-13 a.c
        heavy gcc | g++ -std=c++20 main.cpp
        heavy gcc | cc a.c
        heavy gcc | clang -fsyntax-only a.c
        heavy gcc | clang++-17 x.cc -o x
        heavy gcc | x86_64-linux-gnu-gcc a.c
        heavy gcc | ccache gcc -c a.c
        heavy gcc | gcc $CFLAGS -o app $SRC
        heavy gcc | gcc -x c - -o app
        light gcc | gcc
        light gcc | gcc --version
        light gcc | gcc -v
        light gcc | gcc -dumpmachine
        light gcc | gcc -print-search-dirs
        light gcc | ccache -s
        heavy make | bear -- make
        heavy make | scan-build make
        heavy rustc | rustc main.rs
        light rustc | rustc --version
        light rustc | rustc -vV
        light rustc | rustc --print sysroot
        light rustc | rustc --explain E0308
        heavy javac | javac -d out A.java
        light javac | javac -version
        heavy clang-tidy | clang-tidy -p build a.cc
        heavy clang-tidy | cppcheck src
        ",
    );
}

#[test]
fn cargo() {
    check(
        "
        heavy cargo | cargo build
        heavy cargo | cargo b -r
        heavy cargo | cargo test
        heavy cargo | cargo t --lib -- --nocapture
        heavy cargo | cargo +nightly test
        heavy cargo | cargo --locked test
        heavy cargo | cargo -q check
        heavy cargo | cargo c
        heavy cargo | cargo clippy --all-targets -- -D warnings
        heavy cargo | cargo clippy --fix
        heavy cargo | cargo doc --no-deps
        heavy cargo | cargo nextest run
        heavy cargo | cargo nextest run -E 'test(foo)'
        heavy cargo | cargo llvm-cov --lcov --output-path lcov.info
        heavy cargo | cargo tarpaulin
        heavy cargo | cargo miri test
        heavy cargo | cargo insta test
        heavy cargo | cargo bench --no-run
        heavy cargo | cargo test $FILTER
        heavy cargo | cargo build --manifest-path sub/Cargo.toml
        heavy cargo | rustup run nightly cargo test
        heavy cargo | cross build --target aarch64-unknown-linux-gnu
        heavy cargo | ~/.cargo/bin/cargo test
        light cargo | cargo bench
        light cargo | cargo run
        light cargo | cargo run --release -- --help
        light cargo | cargo install ripgrep
        light cargo | cargo fmt --check
        light cargo | cargo add serde
        light cargo | cargo update
        light cargo | cargo clean
        light cargo | cargo metadata --format-version 1
        light cargo | cargo publish
        light cargo | cargo tree
        light cargo | cargo watch -x test
        light cargo | cargo doc --open
        light cargo | cargo insta review
        light cargo | cargo nextest show-config
        light cargo | cargo --version
        light cargo | cargo -V
        light cargo | cargo
        light cargo | cargo build --help
        light cargo | cargo help test
        unknown cargo | cargo xtask ci
        unknown cargo | cargo $CMD
        light rustup | rustup update
        heavy wasm-pack | wasm-pack build
        heavy maturin | maturin build --release
        light maturin | maturin develop
        "
        .replace(
            "heavy cargo | ~/.cargo/bin/cargo test",
            "unknown  | ~/.cargo/bin/cargo test",
        )
        .as_str(),
    );
}

#[test]
fn python() {
    check(
        "
        heavy pytest | pytest
        heavy pytest | pytest -x tests/test_a.py::test_b
        heavy pytest | pytest -v
        heavy pytest | pytest -k 'a and not b' $FILES
        heavy pytest | pytest -n auto --cov=src --cov-report=html:cov
        heavy pytest | py.test
        heavy pytest | python -m pytest -q
        heavy pytest | python3 -m pytest
        heavy pytest | python3.12 -m pytest
        heavy pytest | python -Im pytest
        heavy pytest | python -W error -m pytest
        heavy pytest | .venv/bin/pytest
        heavy pytest | ./venv/bin/python -m pytest
        heavy pytest | /usr/bin/python3 -m pytest
        heavy pytest | /home/me/env/bin/pytest
        heavy pytest | uv run pytest
        heavy pytest | uv run --with pytest-xdist --python 3.12 pytest -n4
        heavy pytest | uv run -m pytest
        heavy pytest | uv run python -m pytest
        heavy pytest | uv run -- pytest
        heavy pytest | uvx pytest
        heavy pytest | poetry run pytest
        heavy pytest | pipenv run pytest
        heavy pytest | pdm run pytest
        heavy pytest | hatch run pytest
        heavy pytest | hatch test
        heavy pytest | rye run pytest
        heavy pytest | rye test
        heavy pytest | pixi run pytest
        heavy pytest | conda run -n env pytest
        heavy pytest | coverage run -m pytest
        heavy pytest | coverage run --source=src -m pytest -q
        heavy pytest | python -m coverage run -m pytest
        heavy pytest | uv run coverage run -m pytest
        heavy pytest | xvfb-run -a pytest
        light pytest | pytest --collect-only
        light pytest | pytest --co -q
        light pytest | pytest --fixtures
        light pytest | python -m pytest --collect-only -q
        heavy pytest | nice -n 10 pytest
        heavy hatch | hatch run test
        heavy hatch | hatch run dev:test
        heavy pdm | pdm run lint
        light hatch | hatch run publish
        light pytest | pytest --pdb
        light pytest | pytest -f
        light pytest | pytest --version
        light pytest | pytest --help
        light pytest | pytest -h
        light pytest | pytest --fixtures
        light pytest | pytest --benchmark-only
        light light:ptw | ptw
        heavy unittest | python -m unittest
        heavy unittest | python -m unittest discover -s tests
        heavy django | python manage.py test
        heavy django | ./manage.py test app
        light django | python manage.py runserver
        light django | python manage.py migrate
        heavy mypy | mypy src
        heavy mypy | mypy -v src
        heavy mypy | python -m mypy src
        heavy mypy | uv run mypy .
        heavy pyright | pyright
        light pyright | pyright --watch
        heavy pylint | pylint src
        heavy flake8 | flake8
        light light:ruff | ruff check
        light light:black | black .
        light light:ruff | uv run ruff check --fix
        heavy tox | tox
        heavy tox | tox -e py311
        heavy tox | tox -e py311-django42,lint
        heavy tox | tox -p
        heavy tox | tox run -e py312
        light tox | tox -l
        light tox | tox list
        light tox | tox -e release
        unknown tox | tox -e frob
        heavy nox | nox
        heavy nox | nox -s tests-3.12 lint
        unknown nox | nox -s frob
        light nox | nox -s publish
        light nox | nox --list
        heavy python | python -m build
        heavy python | python setup.py build_ext --inplace
        light python | python setup.py install
        light python | python
        light python | python -V
        light python | python --version
        light python | python -i x.py
        light python | python -m pip install x
        light python | python -m venv .venv
        light python | python -m http.server
        light python | python -m json.tool
        unknown python | python x.py
        unknown python | python -c 'print(1)'
        unknown python | python - x
        unknown python | python -m myapp
        unknown python | python $SCRIPT
        unknown python | uv run x.py
        unknown  | uv run myapp
        light uv | uv sync
        light uv | uv pip install x
        light poetry | poetry install
        light coverage | coverage html
        light coverage | coverage report
        unknown coverage | coverage run x.py
        heavy sphinx | sphinx-build docs out
        light light:pip | pip install -r requirements.txt
        light light:pip3 | pip3 install x
        "
        .replace("unknown python | uv run x.py", "unknown  | uv run x.py")
        .as_str(),
    );
}

#[test]
fn javascript() {
    check(
        "
        heavy jest | jest
        heavy jest | npx jest --ci src/a.test.ts
        heavy jest | npx --yes jest@29
        heavy jest | yarn jest
        heavy jest | pnpm exec jest
        heavy jest | pnpm jest
        heavy jest | bunx jest
        heavy jest | node_modules/.bin/jest
        heavy jest | ./node_modules/.bin/jest
        heavy jest | node node_modules/.bin/jest
        heavy jest | npm exec -- jest
        heavy jest | jest --watch=false
        light jest | jest --watch
        light jest | jest --listTests
        light jest | npx jest --watchAll
        light jest | npx jest --version
        heavy vitest | vitest run
        heavy vitest | npx vitest run --coverage
        heavy vitest | npx vitest --run
        light vitest | vitest
        light vitest | npx vitest
        light vitest | vitest --ui
        light vitest | vitest bench
        heavy mocha | mocha
        light mocha | mocha --watch
        heavy mocha | npx ava
        heavy playwright | npx playwright test
        light playwright | npx playwright test --ui
        light playwright | npx playwright install
        light playwright | npx playwright show-report
        heavy cypress | cypress run
        light cypress | cypress open
        heavy eslint | eslint .
        heavy eslint | npx eslint --fix src
        light eslint | npx eslint --init
        heavy tsc | tsc
        heavy tsc | npx tsc --noEmit
        heavy tsc | npx tsc -p tsconfig.json
        heavy tsc | yarn tsc -b
        light tsc | tsc -w
        light tsc | tsc --init
        light tsc | tsc -v
        heavy webpack | npx webpack --mode production
        light webpack | webpack serve
        light webpack | webpack --watch
        heavy vite | vite build
        light vite | vite
        light vite | vite preview
        light vite | npx vite dev
        heavy rollup | rollup -c
        light rollup | rollup -c -w
        light light:esbuild | esbuild a.ts --bundle
        heavy next | next build
        light next | next dev
        heavy next | npx next lint
        heavy ng | ng build
        light ng | ng test
        heavy ng | ng test --watch=false
        heavy turbo | turbo run build test
        heavy turbo | npx turbo build
        light turbo | turbo run deploy
        heavy turbo | lerna run test
        heavy nx | nx test app
        heavy nx | npx nx run app:build
        heavy nx | nx run-many -t build test
        heavy nx | nx affected --target=lint
        light nx | nx serve app
        unknown nx | nx frob app
        heavy npm | npm test
        heavy npm | npm t
        heavy npm | npm run build
        heavy npm | npm run test:unit
        heavy npm | npm run lint
        heavy npm | npm run check
        heavy npm | npm run -s typecheck
        heavy npm | npm --prefix web run build
        heavy npm | npm run test --workspace=x
        heavy npm | npm test -- --coverage
        light npm | npm test -- --watch
        light npm | npm run dev
        light npm | npm start
        light npm | npm run start
        light npm | npm run deploy
        light npm | npm run test:watch
        light npm | npm run build:docker
        light npm | npm install
        light npm | npm ci
        light npm | npm run
        light npm | npm
        light npm | npm -v
        unknown npm | npm run codegen
        unknown npm | npm run $SCRIPT
        heavy pnpm | pnpm test
        heavy pnpm | pnpm build
        heavy pnpm | pnpm -r build
        heavy pnpm | pnpm --filter web test
        heavy pnpm | pnpm -C web run lint
        light pnpm | pnpm install
        light pnpm | pnpm i
        light pnpm | pnpm dev
        unknown pnpm | pnpm frob
        heavy yarn | yarn test
        heavy yarn | yarn build
        heavy yarn | yarn run lint
        heavy yarn | yarn workspace web test
        heavy yarn | yarn workspaces foreach -A run build
        heavy yarn | yarn --cwd web build
        light yarn | yarn
        light yarn | yarn install
        light yarn | yarn add x
        light yarn | yarn dev
        unknown yarn | yarn frob
        heavy bun | bun test
        heavy bun | bun run build
        heavy bun | bun run test
        light bun | bun test --watch
        light bun | bun install
        light bun | bun build a.ts
        unknown bun | bun x.ts
        heavy node | node --test
        light node | node
        light node | node --watch x.js
        unknown node | node x.js
        unknown  | npx frobnicate
        unknown  | npx -c 'jest'
        light light:prettier | npx prettier --write .
        heavy deno | deno test
        light deno | deno run x.ts
        heavy deno | deno task build
        ",
    );
}

#[test]
fn other_languages() {
    check(
        "
        heavy go | go build ./...
        heavy go | go build -o bin/app ./cmd/app
        heavy go | go test ./...
        heavy go | go test -run TestX -count=1 ./pkg
        heavy go | go -C sub test ./...
        heavy go | go vet ./...
        heavy go | gotestsum -- ./...
        light go | go test -bench=. ./...
        light go | go run .
        light go | go mod tidy
        light go | go install ./...
        light go | go fmt ./...
        light go | go version
        light go | go env GOPATH
        unknown go | go generate ./...
        heavy golangci-lint | golangci-lint run
        light golangci-lint | golangci-lint version
        heavy gradle | ./gradlew build
        heavy gradle | ./gradlew clean test
        heavy gradle | gradle :app:testDebugUnitTest
        heavy gradle | ./gradlew assembleDebug --no-daemon
        heavy gradle | ./gradlew test --tests 'a.B'
        light gradle | ./gradlew clean
        light gradle | ./gradlew bootRun
        light gradle | ./gradlew tasks
        light gradle | ./gradlew publish
        light gradle | ./gradlew build publish
        light gradle | ./gradlew -t build
        light gradle | ./gradlew installDebug
        light gradle | ./gradlew --stop
        light gradle | gradle --version
        light gradle | ./gradlew
        unknown gradle | ./gradlew frob
        heavy maven | mvn test
        heavy maven | mvn -q clean verify
        heavy maven | ./mvnw package -DskipTests
        heavy maven | mvn -pl core -am test
        light maven | mvn clean
        light maven | mvn install
        light maven | mvn deploy
        light maven | mvn spring-boot:run
        light maven | mvn -v
        unknown maven | mvn frob:x
        heavy ant | ant test
        heavy sbt | sbt test
        heavy sbt | sbt 'testOnly a.B'
        light sbt | sbt
        light sbt | sbt run
        heavy dotnet | dotnet build
        heavy dotnet | dotnet test
        heavy dotnet | dotnet publish -c Release
        light dotnet | dotnet run
        light dotnet | dotnet restore
        light dotnet | dotnet watch test
        light bazel | bazel build //...
        heavy bazel | bazelisk test //a:b
        light bazel | bazel run //a
        light bazel | bazel query //...
        unknown docker | docker build .
        unknown docker | docker ps
        unknown docker | docker run -it x bash
        unknown docker | docker compose up -d
        unknown docker | podman build .
        light docker | docker push x/y
        light docker | docker login
        light docker | docker --version
        heavy swift | swift build -c release
        heavy swift | swift test
        light swift | swift run
        light swift | swift package resolve
        heavy xcodebuild | xcodebuild -scheme App test
        light xcodebuild | xcodebuild -list
        heavy zig | zig build
        heavy zig | zig build test
        heavy zig | zig test a.zig
        light zig | zig build run
        light zig | zig fmt .
        light zig | zig version
        heavy ghc | ghc Main.hs
        heavy cabal | cabal build all
        heavy cabal | cabal test
        light cabal | cabal repl
        heavy stack | stack test
        light stack | stack ghci
        heavy elixir | mix test
        heavy elixir | mix compile
        light elixir | mix phx.server
        light elixir | mix deps.get
        heavy rspec | rspec
        heavy rspec | bundle exec rspec spec/a_spec.rb
        heavy rake | bundle exec rake test
        heavy rspec | bin/rspec
        heavy rails | bin/rails test
        heavy rails | rails test
        light rails | rails server
        light bundle | bundle install
        heavy rubocop | bundle exec rubocop
        heavy phpunit | vendor/bin/phpunit
        heavy phpunit | phpunit --filter x
        heavy phpunit | php artisan test
        heavy phpunit | php vendor/bin/phpunit
        heavy phpstan | vendor/bin/phpstan analyse
        light composer | composer install
        heavy composer | composer test
        heavy composer | composer run-script lint
        unknown php | php x.php
        heavy dune | dune build
        light dune | dune exec x
        heavy flutter | flutter test
        light flutter | flutter run
        heavy forge | forge test -vvv
        heavy perl | prove -lr t
        heavy latex | pdflatex -interaction=nonstopmode a.tex
        heavy latex | latexmk -pdf a.tex
        light latex | latexmk -pvc a.tex
        heavy mkdocs | mkdocs build
        light mkdocs | mkdocs serve
        heavy doxygen | doxygen Doxyfile
        heavy R | R CMD check .
        light R | R
        heavy R | Rscript -e 'devtools::test()'
        heavy R | Rscript --vanilla -e 'testthat::test_local()'
        unknown R | Rscript deploy.R
        heavy bats | bats test/
        heavy bats | bats -r --jobs 4 test
        light bats | bats --version
        heavy julia | julia --project=. -e 'using Pkg; Pkg.test()'
        heavy julia | julia --project test/runtests.jl
        unknown julia | julia server.jl
        light julia | julia
        heavy scala-cli | scala-cli test .
        light scala-cli | scala-cli run .
        heavy lein | clj -M:test
        heavy lein | clojure -X:dev:test
        unknown lein | clj -M:dev
        unknown lein | clojure -T:build jar
        light lein | clj
        heavy trunk | trunk build --release
        light trunk | trunk serve
        light light:pre-commit | pre-commit run --all-files
        heavy pytest | mise exec -- pytest
        heavy make | direnv exec . make
        light light:hyperfine | hyperfine 'make'
        light light:terraform | terraform apply
        ",
    );
}

#[test]
fn light_and_unknown() {
    check(
        "
        light light:git | git status
        light light:git | /usr/bin/git commit -m 'make test'
        light light:ls | ls -la
        light light:cd | cd app
        light light:echo | echo make
        light light:export | export A=1
        light light:exit | exit 1
        light light:rg | rg pytest
        light light:ssh | ssh host make
        light light:curl | curl -fsSL https://x
        light light:kubectl | kubectl apply -f x
        light light:vim | vim x
        light light:sudo | sudo make install
        light light:apt-get | apt-get install x
        light light:brew | brew install x
        light light:[ | [ -f x ]
        light light:test | test -f x
        light light:command | command -v pytest
        light light:assignment | A=1
        light cx | cx pytest
        light cx | cx run --on tower -- make
        light cx | /usr/local/bin/cx make
        unknown  | frobnicate
        unknown  | ./script.sh
        unknown  | ./test
        unknown  | ./build/tests/unit_test
        unknown  | ../make
        unknown  | $CMD test
        unknown  | bash script.sh
        unknown  | bash -c 'make'
        unknown  | xargs make
        unknown  | scripts/make
        ",
    );
}

/// A workload in short: `needs | reads | leaves | brings | marks`, where a need is `program[:module][=]` (`=` for the
/// same version), and the marks are `stdin` and `same`.
fn short(w: &Workload) -> String {
    let needs: Vec<String> = w
        .needs
        .iter()
        .map(|n| {
            let module = n.module.as_deref().map(|m| format!(":{m}")).unwrap_or_default();
            format!("{}{module}{}", n.program, if n.same_version { "=" } else { "" })
        })
        .collect();
    let brings = match &w.brings {
        Brings::Synced => "synced".to_owned(),
        Brings::Ignored => "ignored".to_owned(),
        Brings::Outputs(globs) => globs.join(" "),
    };
    let mut marks = Vec::new();
    if w.stdin {
        marks.push("stdin");
    }
    if w.platform == PlatformTie::Same {
        marks.push("same");
    }
    assert_eq!(w.tags, Vec::<String>::new());
    [
        needs.join(" "),
        w.reads.join(" "),
        w.leaves.join(" "),
        brings,
        marks.join(" "),
    ]
    .join(" | ")
}

#[test]
fn workloads() {
    let rows = [
        ("make", "make |  |  | ignored | same"),
        ("make test", "make |  |  | ignored | "),
        ("make -C ./sub/ all", "make | sub |  | ignored | same"),
        ("/usr/bin/make", "/usr/bin/make |  |  | ignored | same"),
        ("ninja -C out", "ninja | out |  | ignored | same"),
        ("ninja", "ninja | . |  | ignored | same"),
        ("cmake --build build", "cmake | build |  | ignored | same"),
        ("cmake -S . -B build", "cmake | build | build | build/** | same"),
        ("ctest --test-dir build", "ctest | build |  | build/Testing/** | "),
        ("ctest --output-junit j.xml", "ctest | . |  | j.xml Testing/** | "),
        ("meson compile -C build", "meson | build |  | ignored | same"),
        ("meson test -C build", "meson | build |  | build/meson-logs/** | "),
        ("gcc -o app a.c", "gcc |  |  | app | same"),
        ("gcc -c a.c", "gcc |  |  | *.o | same"),
        ("gcc a.c", "gcc |  |  | a.out | same"),
        ("gcc -oapp -MMD a.c", "gcc |  |  | app app.d | same"),
        ("gcc -fsyntax-only a.c", "gcc |  |  | synced | same"),
        ("gcc -x c - -o app", "gcc |  |  | app | stdin same"),
        ("gcc -o $OUT a.c", "gcc |  |  | ignored | same"),
        ("gcc -o /dev/null a.c", "gcc |  |  | synced | same"),
        ("ccache gcc -c a.c", "ccache gcc |  |  | *.o | same"),
        ("cargo build", "cargo |  | target | target/debug/* | same"),
        (
            "cargo build --release",
            "cargo |  | target | target/release/* | same",
        ),
        (
            "cargo b -r --target x86_64-unknown-linux-musl",
            "cargo |  | target | target/x86_64-unknown-linux-musl/release/* | same",
        ),
        (
            "cargo build --profile dist",
            "cargo |  | target | target/dist/* | same",
        ),
        (
            "cargo build --profile dev",
            "cargo |  | target | target/debug/* | same",
        ),
        (
            "cargo build --target-dir /tmp/t",
            "cargo |  | /tmp/t | /tmp/t/debug/* | same",
        ),
        (
            "cargo build --manifest-path sub/Cargo.toml",
            "cargo |  | sub/target | sub/target/debug/* | same",
        ),
        (
            "cargo build --examples",
            "cargo |  | target | target/debug/* target/debug/examples/* | same",
        ),
        ("cargo test", "cargo |  | target | synced | "),
        ("cargo clippy", "cargo |  | target | synced | "),
        ("cargo doc", "cargo |  | target | target/doc/** | "),
        (
            "cargo nextest run",
            "cargo cargo-nextest |  | target | target/nextest/*/junit.xml | ",
        ),
        (
            "pytest",
            "pytest |  | .pytest_cache .hypothesis | .coverage coverage.xml htmlcov/** | ",
        ),
        (
            ".venv/bin/pytest",
            ".venv/bin/pytest | .venv | .pytest_cache .hypothesis | .coverage coverage.xml htmlcov/** | ",
        ),
        (
            "python3 -m pytest",
            "python3:pytest= |  | .pytest_cache .hypothesis | .coverage coverage.xml htmlcov/** | ",
        ),
        (
            "pytest --junitxml=out/j.xml --cov-report=html:cov --cov-report xml:c.xml",
            "pytest |  | .pytest_cache .hypothesis | .coverage coverage.xml htmlcov/** out/j.xml cov/** c.xml | ",
        ),
        (
            "uv run pytest",
            "uv |  | .pytest_cache .hypothesis .venv | .coverage coverage.xml htmlcov/** | ",
        ),
        (
            "poetry run pytest",
            "poetry |  | .pytest_cache .hypothesis | .coverage coverage.xml htmlcov/** | ",
        ),
        (
            "coverage run -m pytest",
            "coverage |  | .pytest_cache .hypothesis | .coverage coverage.xml htmlcov/** .coverage.* | ",
        ),
        ("python -m unittest", "python:unittest= |  |  | synced | "),
        ("mypy src", "mypy |  | .mypy_cache | synced | "),
        ("python -m mypy src", "python:mypy= |  | .mypy_cache | synced | "),
        (
            "npx jest",
            "npx node= | node_modules |  | coverage/** test-results/** junit.xml | ",
        ),
        (
            "node_modules/.bin/jest",
            "node_modules/.bin/jest | node_modules |  | coverage/** test-results/** junit.xml | ",
        ),
        ("npm run lint", "npm node= | node_modules |  | synced | "),
        (
            "npm --prefix web run lint",
            "npm node= | web/node_modules |  | synced | ",
        ),
        (
            "npm run build",
            "npm node= | node_modules |  | dist/** build/** out/** lib/** .next/** .output/** storybook-static/** public/build/** | ",
        ),
        (
            "bun test",
            "bun | node_modules |  | coverage/** test-results/** junit.xml | ",
        ),
        ("npx tsc --noEmit", "npx node= | node_modules |  | synced | "),
        ("tsc", "tsc | node_modules |  | ignored | "),
        ("tsc --outDir lib", "tsc | node_modules |  | lib/** | "),
        ("eslint --stdin", "eslint | node_modules |  | synced | stdin"),
        ("vite build", "vite | node_modules |  | dist/** build/** | "),
        ("next build", "next | node_modules |  | .next/** out/** | "),
        ("go build ./...", "go= |  |  | ignored | same"),
        ("go build -o bin/app .", "go= |  |  | bin/app | same"),
        ("go test ./...", "go= |  |  | synced | "),
        ("go test -coverprofile=c.out ./...", "go= |  |  | c.out | "),
        (
            "mvn test",
            "mvn java= |  | target | target/*.jar target/*.war target/surefire-reports/** target/failsafe-reports/** target/site/** */target/*.jar */target/*.war */target/surefire-reports/** | ",
        ),
        ("bazel test //...", "bazel |  |  | synced | "),
        (
            "swift build -c release",
            "swift |  | .build | .build/release/* .build/*/release/* | same",
        ),
        ("bundle exec rspec", "bundle |  |  | coverage/** | "),
        (
            "vendor/bin/phpunit",
            "vendor/bin/phpunit | vendor | .phpunit.cache | synced | ",
        ),
        ("frobnicate", " |  |  | ignored | "),
        ("git status", " |  |  | synced | "),
    ];
    let mut wrong = Vec::new();
    for (command, want) in rows {
        let got = short(&first(command).workload);
        if got != want {
            wrong.push(format!("{command}\n  want {want}\n  got  {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_users_word_comes_first() {
    let mine: UserRule =
        toml::from_str("name = 'gen'\nmatch = ['just codegen', 'git']\noutputs = ['gen/**']").unwrap();
    let none: UserRule = toml::from_str("name = 'no-make'\nmatch = 'make'\nclass = 'light'").unwrap();
    let rules = [mine, none];
    let off = ["pytest".to_owned()];
    let aliases = ["ninja".to_owned()];
    let ctx = Context {
        user_rules: &rules,
        off: &off,
        aliases: &aliases,
    };
    let judged = |text: &str| classify_script(text, Dialect::Bash, &ctx).unwrap().remove(0);
    for (text, class, rule, moves) in [
        ("just codegen", Class::Heavy, "user:gen", true),
        ("just test", Class::Heavy, "just", true),
        ("git gc", Class::Heavy, "user:gen", true),
        ("make all", Class::Light, "user:no-make", false),
        ("uv run pytest", Class::Light, "pytest", false),
        ("pytest", Class::Light, "pytest", false),
        ("ninja", Class::Heavy, "ninja", false),
        ("sudo ninja", Class::Light, "light:sudo", false),
        ("f() { ninja; }", Class::Heavy, "ninja", false),
        ("cargo test", Class::Heavy, "cargo", true),
    ] {
        let j = judged(text);
        assert_eq!(
            (j.verdict.class, j.verdict.rule.as_str(), j.moves()),
            (class, rule, moves),
            "{text}"
        );
    }
    assert!(
        judged("ninja")
            .part
            .left_alone
            .unwrap()
            .contains("your shell defines `ninja`")
    );
}

#[test]
fn no_rule_of_the_users_puts_a_program_in_the_place_of_the_shell() {
    let rules = [
        "regex = '.'",
        "match = ['cd', 'set', 'printf', 'kill', 'codegen']",
    ]
    .map(|rule| toml::from_str(&format!("name = 'gen'\n{rule}")).unwrap());
    for rule in &rules {
        let ctx = Context {
            user_rules: std::slice::from_ref(rule),
            ..Context::default()
        };
        let moving = |text: &str, dialect| {
            let judged = classify_script(text, dialect, &ctx).unwrap_or_else(|e| panic!("{text}: {e}"));
            judged.iter().any(Judged::moves)
        };
        for text in [
            "cd codegen",
            "cd -P codegen",
            "command cd codegen",
            "builtin cd codegen",
            "pushd codegen",
            "popd codegen",
            "set -- codegen",
            "unset codegen",
            "alias codegen=1",
            "unalias codegen",
            "let codegen=1",
            "printf -v codegen x",
            "mapfile codegen",
            "readarray -t codegen",
            "read codegen",
            "export codegen=1",
            "declare codegen=1",
            "shopt -s codegen",
            "getopts codegen x",
            "hash codegen",
            "type codegen",
            "shift codegen",
            "wait codegen",
            "kill %codegen",
            "umask 077",
            "exec codegen",
            "exit codegen",
            ". ./codegen",
            "source codegen",
            "trap codegen EXIT",
        ] {
            assert!(!moving(text, Dialect::Bash), "{rule:?}: {text}");
        }
        for text in [
            "autoload codegen",
            "setopt codegen",
            "print -v codegen x",
            "chdir codegen",
        ] {
            assert!(!moving(text, Dialect::Zsh), "{rule:?}: {text}");
        }
        for text in ["codegen", "printf codegen", "./set codegen"] {
            assert!(moving(text, Dialect::Bash), "{rule:?}: {text}");
        }
    }
}

#[test]
fn every_heavy_rule_is_listed() {
    // Each heavy row of the tables above carries a rule that `off` in the config may name.
    let source = include_str!("tests.rs");
    for line in source.lines() {
        let Some(rest) = line.trim().strip_prefix("heavy ") else {
            continue;
        };
        let Some((rule, _)) = rest.split_once(" | ") else {
            continue;
        };
        assert!(rules::NAMES.contains(&rule.trim()), "{rule}");
    }
}

/// Programs and words that the rules look at, to be thrown together.
const WORDS: &[&str] = &[
    "make",
    "cmake",
    "ninja",
    "cargo",
    "pytest",
    "python",
    "python3.12",
    "-m",
    "-c",
    "uv",
    "run",
    "poetry",
    "coverage",
    "npx",
    "npm",
    "yarn",
    "pnpm",
    "bun",
    "workspace",
    "workspaces",
    "foreach",
    "exec",
    "jest",
    "vitest",
    "tsc",
    "go",
    "build",
    "test",
    "-C",
    "dir",
    "--",
    "-",
    "",
    "-o",
    "--release",
    "--target",
    "-j",
    "8",
    "gcc",
    "a.c",
    "tox",
    "-e",
    "nox",
    "-s",
    "mvn",
    "clean",
    "gradle",
    "./gradlew",
    "docker",
    "bundle",
    "xvfb-run",
    "ccache",
    "rustup",
    "nightly",
    "+nightly",
    "--build",
    "-B",
    "--watch",
    "--pdb",
    "all",
    "install",
    "turbo",
    "nx",
    "run-many",
    "-t",
    "deno",
    "task",
    "mise",
    "direnv",
    "php",
    "artisan",
    "composer",
    "R",
    "CMD",
    "check",
    "é",
    "a@b",
    "@",
    "/",
    "./",
    "x/",
    "/bin/",
    ".venv/bin/pytest",
    "node_modules/.bin/jest",
    "--manifest-path",
    "--prefix",
    "cx",
    "c8",
    "--cov-report",
];

fn words() -> impl Strategy<Value = Vec<Word>> {
    let word = prop_oneof![
        8 => prop::sample::select(WORDS).prop_map(Word::from),
        1 => any::<String>().prop_map(Word::Static),
        1 => Just(Word::Dynamic),
        1 => Just(Word::Flag("-j".into())),
    ];
    prop::collection::vec(word, 0..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn every_command_gets_a_judgement(argv in words()) {
        let v = classify(&argv, &Context::default());
        prop_assert!(!v.reason.is_empty());
        match v.class {
            Class::Heavy => {
                prop_assert!(rules::NAMES.contains(&v.rule.as_str()), "{}", v.rule);
                prop_assert!(!v.workload.needs.is_empty());
            }
            Class::Light => prop_assert_eq!(v.workload, Workload::default()),
            Class::Unknown => prop_assert!(v.workload.needs.is_empty()),
        }
    }

    #[test]
    fn every_text_is_survived(text in any::<String>()) {
        drop(classify_script(&text, Dialect::Bash, &Context::default()));
        drop(classify_script(&text, Dialect::Zsh, &Context::default()));
    }
}
