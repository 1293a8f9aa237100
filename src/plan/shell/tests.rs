use super::*;

fn parts(text: &str) -> Vec<Part> {
    parse(text, Dialect::Bash)
        .unwrap_or_else(|e| panic!("{text}: {e}"))
        .parts
}

#[test]
fn dump() {
    for t in [
        "cd app && FOO=1 timeout 300 pytest -x 2>&1 | tail -20; echo $?",
        "A=1",
        "A=$(make) B=(`x`) >$(y)",
        "time -p make",
        "exit 3",
        "export A=$(make)",
        "x=1 exit  $(foo) >f",
        ">f",
        "echo \"a $(make \"$(b)\") c\"",
    ] {
        println!("{t}");
        for p in parts(t) {
            println!("   {p:?} {:?}", &t[p.span.clone()]);
        }
    }
}
