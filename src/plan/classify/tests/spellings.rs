//! Less usual spellings of what the other tables hold, as people and agents type them.

use super::*;

#[test]
fn targets_named_by_their_last_word_or_by_a_tool() {
    check(
        "
        heavy make | make unit-test
        heavy make | make integration-tests
        heavy make | make unit
        heavy make | make e2e
        heavy make | make verify
        heavy make | make pytest
        heavy make | make frontend-build
        heavy make | make out/foo.test
        heavy npm | npm run types:check
        heavy npm | npm run e2e
        heavy npm | npm run jest
        heavy npm | npm run tsc
        heavy npm | npm run web:build
        heavy pnpm | pnpm run eslint --fix
        heavy just | just clippy
        heavy nox | nox -s mypy
        heavy nox | nox -s \"tests(python='3.12')\" lint
        heavy tox | tox -e lint,type
        heavy tox | tox -e docs-build
        heavy rake | rake js:test
        unknown make | make ci
        unknown make | make precommit
        light make | make db
        unknown make | make out/foo.o
        unknown nox | nox -s \"frob(tests)\"
        light make | make load-test
        light make | make health-check
        light make | make cloud-build
        light make | make deploy-check
        light make | make prod-test
        light npm | npm run db:check
        light npm | npm run watch:test
        ",
    );
}

#[test]
fn runners_in_front() {
    check(
        "
        heavy rollup | npx rollup -c
        heavy rollup | npx rollup -c rollup.config.mjs
        heavy jest | npx jest -c jest.ci.js
        heavy jest | npx -y jest -c x
        unknown  | npx -c 'jest'
        unknown  | npx -p jest -c 'jest x'
        unknown  | npm exec jest -c 'jest x'
        unknown  | npm exec -c 'jest'
        heavy jest | npm exec -- jest -c x
        heavy pytest | hatch run test:pytest -x
        heavy pytest | hatch run dev:python -m pytest
        unknown  | hatch run dev:frob
        light hatch | hatch run test:run
        heavy django | python -m django test app
        heavy django | django-admin test
        light django | django-admin migrate
        heavy sbt | sbt 'project core' test
        heavy sbt | sbt 'project core' 'testOnly a.B'
        heavy sbt | sbt ';clean;test'
        heavy sbt | sbt 'clean; coverage; test'
        light sbt | sbt ';clean;publish'
        light sbt | sbt 'project core'
        unknown sbt | sbt ';test;frob'
        ",
    );
}
