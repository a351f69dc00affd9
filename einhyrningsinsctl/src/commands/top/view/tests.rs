use einhorn_proto::Severity;
use ratatui_core::backend::TestBackend;
use ratatui_core::terminal::Terminal;

use super::*;
use crate::commands::top::fixtures::{NOW_MS, event, idle, lost, picture, status, upgrading};
use crate::commands::top::keys::Key;
use crate::commands::top::order::Order;

/// What is on the screen.
fn drawn(state: &mut State, columns: u16, rows: u16) -> String {
    let buffer = buffer(state, columns, rows, true);
    let lines = (0..rows).map(|y| {
        let line: String = (0..columns).map(|x| buffer[(x, y)].symbol()).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

fn buffer(state: &mut State, columns: u16, rows: u16, is_coloured: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(frame, state, NOW_MS, is_coloured)).unwrap();
    terminal.backend().buffer().clone()
}

fn with_events(mut state: State) -> State {
    for (ago_ms, severity, message) in [
        (130_000, Severity::Info, "upgrade to generation 8 of 4 workers began"),
        (12_000, Severity::Info, "slot 1: worker 4802 (generation 8) spawned, index 4"),
        (900, Severity::Warn, "slot 3: worker 4715 (generation 7) was killed by SIGSEGV \u{202e}after 1d02h"),
    ] {
        state.hear(event(ago_ms, severity, message));
    }
    state
}

/// A pool whose master is lost, with what was known before.
fn lost_state() -> State {
    let mut state = State::new(idle());
    state.see(lost());
    state
}

#[test]
fn an_idle_pool_is_shown_in_each_width() {
    insta::assert_snapshot!(drawn(&mut State::new(idle()), 120, 24), @r"
    master    web, pid 4711, version 0.1.0, running, age 3d01h
    workers   4 of 4 up, generation 7, 406M, 26% CPU
    release   7 (v7), current for 2h: /srv/web/releases/7, bin/server of 2026-11-22T08:35:29Z
    last      upgrade to generation 7, done 2h ago
    limits    workers start up to 2 at a time, one for each CPU; a worker above 500M is replaced
    listens   0.0.0.0:8080  [#####.....] 2100 of 4096, 17 overflows
    listens   udp:[::1]:53  [..........] 0 of 212992 bytes

    SLOT   PID  GEN  STATE   CPU           RSS    AGE  RESTARTS  SAYS, OR LAST DEATH
       0  4712    7  up     0.0%  100M of 500M  1d02h         0
       1  4713    7  up     6.5%  101M of 500M  1d02h         0  serving \u{1b}[31m3 requests and more
       2  4714    7  up        -  102M of 500M  1d02h         0
       3  4715    7  up      20%  103M of 500M  1d02h         2  3m ago: SIGSEGV after 1m01s (pid 4700, generation 7)










    u upgrade   a abort   r rollback   + more   - less   R replace   q quit
    ");
    insta::assert_snapshot!(drawn(&mut State::new(idle()), 80, 24), @r"
    master    web, pid 4711, version 0.1.0, running, age 3d01h
    workers   4 of 4 up, generation 7, 406M, 26% CPU
    release   7 (v7), current for 2h: /srv/web/releases/7, bin/server of 2026-11-22…
    last      upgrade to generation 7, done 2h ago
    limits    workers start up to 2 at a time, one for each CPU; a worker above 500…
    listens   0.0.0.0:8080  [#####.....] 2100 of 4096, 17 overflows
    listens   udp:[::1]:53  [..........] 0 of 212992 bytes

    SLOT   PID  GEN  STATE   CPU           RSS    AGE  RESTARTS  SAYS, OR LAST DEATH
       0  4712    7  up     0.0%  100M of 500M  1d02h         0
       1  4713    7  up     6.5%  101M of 500M  1d02h         0  serving \u{1b}[31m…
       2  4714    7  up        -  102M of 500M  1d02h         0
       3  4715    7  up      20%  103M of 500M  1d02h         2  3m ago: SIGSEGV af…










    u upgrade   a abort   r rollback   + more   - less   R replace   q quit
    ");
    insta::assert_snapshot!(drawn(&mut State::new(idle()), 60, 18), @r"
    master    web, pid 4711, version 0.1.0, running, age 3d01h
    workers   4 of 4 up, generation 7, 406M, 26% CPU
    release   7 (v7), current for 2h: /srv/web/releases/7, bin/…
    last      upgrade to generation 7, done 2h ago
    limits    workers start up to 2 at a time, one for each CPU…
    listens   0.0.0.0:8080  [#####.....] 2100 of 4096, 17 overf…
    listens   udp:[::1]:53  [..........] 0 of 212992 bytes

    SLOT   PID  GEN  STATE   CPU   RSS    AGE  SAYS, OR LAST DE…
       0  4712    7  up     0.0%  100M  1d02h
       1  4713    7  up     6.5%  101M  1d02h  serving \u{1b}[3…
       2  4714    7  up        -  102M  1d02h
       3  4715    7  up      20%  103M  1d02h  3m ago: SIGSEGV …




    u upgrade a abort r rollback + more - less R replace q quit
    ");
}

#[test]
fn an_upgrade_is_shown_in_each_width() {
    insta::assert_snapshot!(drawn(&mut with_events(State::new(upgrading())), 120, 24), @r"
    master    web, pid 4711, version 0.1.0, upgrading, age 3d01h
    workers   3 of 4 up, 1 starting, 1 draining, generation 8, 406M, 26% CPU
    release   7 (v7), current: /srv/web/releases/7, bin/server of 2026-11-22T08:35:29Z
    release   8 (v8), next: /srv/web/releases/8, bin/server of 2026-11-22T08:35:29Z
    upgrade   to generation 8, for 14s: 1 of 4 up, 1 starting
              generation 8 [#####...............] 1/4 acked, 14s, 1 starting (slot 1, 48s left), 1 draining
    queue     1 more upgrade waits
    limits    workers start up to 2 at a time, one for each CPU; a worker above 500M is replaced
    listens   0.0.0.0:8080  [#####.....] 2100 of 4096, 17 overflows
    listens   udp:[::1]:53  [..........] 0 of 212992 bytes

    SLOT   PID  GEN  STATE          CPU           RSS    AGE  RESTARTS  SAYS, OR LAST DEATH
       0  4801    8  up            0.0%  100M of 500M    13s         0
       1  4713    7  up            6.5%  101M of 500M  1d02h
       1  4802    8  starting         -  102M of 500M    12s         0  no ack for 12s: it is up once it sends worker:ack o…
       2  4714    7  up             20%  103M of 500M  1d02h         0
       3  4715    7  draining       26%  104M of 500M  1d02h
       3             waiting 1.2s                                    2

    EVENTS
      2m  upgrade to generation 8 of 4 workers began
     12s  slot 1: worker 4802 (generation 8) spawned, index 4
      0s  slot 3: worker 4715 (generation 7) was killed by SIGSEGV \u{202e}after 1d02h
    u upgrade   a abort   r rollback   + more   - less   R replace   q quit
    ");
    insta::assert_snapshot!(drawn(&mut with_events(State::new(upgrading())), 80, 24), @r"
    master    web, pid 4711, version 0.1.0, upgrading, age 3d01h
    workers   3 of 4 up, 1 starting, 1 draining, generation 8, 406M, 26% CPU
    release   7 (v7), current: /srv/web/releases/7, bin/server of 2026-11-22T08:35:…
    release   8 (v8), next: /srv/web/releases/8, bin/server of 2026-11-22T08:35:29Z
    upgrade   to generation 8, for 14s: 1 of 4 up, 1 starting
              [##......] 1/4 acked, 14s, 1 starting (slot 1, 48s left), 1 draining
    queue     1 more upgrade waits
    limits    workers start up to 2 at a time, one for each CPU; a worker above 500…
    listens   0.0.0.0:8080  [#####.....] 2100 of 4096, 17 overflows
    listens   udp:[::1]:53  [..........] 0 of 212992 bytes

    SLOT   PID  GEN  STATE          CPU           RSS    AGE  SAYS, OR LAST DEATH
       0  4801    8  up            0.0%  100M of 500M    13s
       1  4713    7  up            6.5%  101M of 500M  1d02h
       1  4802    8  starting         -  102M of 500M    12s  no ack for 12s: it is…
       2  4714    7  up             20%  103M of 500M  1d02h
       3  4715    7  draining       26%  104M of 500M  1d02h
       3             waiting 1.2s

    EVENTS
      2m  upgrade to generation 8 of 4 workers began
     12s  slot 1: worker 4802 (generation 8) spawned, index 4
      0s  slot 3: worker 4715 (generation 7) was killed by SIGSEGV \u{202e}after 1d…
    u upgrade   a abort   r rollback   + more   - less   R replace   q quit
    ");
    insta::assert_snapshot!(drawn(&mut with_events(State::new(upgrading())), 60, 18), @"
    master    web, pid 4711, version 0.1.0, upgrading, age 3d01h
    workers   3 of 4 up, 1 starting, 1 draining, generation 8, …
    release   7 (v7), current: /srv/web/releases/7, bin/server …
    release   8 (v8), next: /srv/web/releases/8, bin/server of …
    upgrade   to generation 8, for 14s: 1 of 4 up, 1 starting
    [##......] 1/4 acked, 14s, 1 starting (slot 1, 48s left), 1…
    queue     1 more upgrade waits
    listens   0.0.0.0:8080  [#####.....] 2100 of 4096, 17 overf…
    SLOT   PID  GEN  STATE          CPU   RSS  SAYS, OR LAST DE…
       0  4801    8  up            0.0%  100M
       1  4713    7  up            6.5%  101M
       1  4802    8  starting         -  102M  no ack for 12s: …
       2  4714    7  up             20%  103M

    EVENTS
     12s  slot 1: worker 4802 (generation 8) spawned, index 4
      0s  slot 3: worker 4715 (generation 7) was killed by SIGS…
    u upgrade a abort r rollback + more - less R replace q quit…
    ");
}

#[test]
fn a_lost_master_is_shown_in_each_width() {
    insta::assert_snapshot!(drawn(&mut lost_state(), 120, 24), @r"
    lost      no answer for 12s: cannot connect to /run/web/einhorn.sock: Connection refused (os error 111)
              no master listens there; below is what was last known
    master    web, pid 4711, version 0.1.0, running, age 3d01h
    workers   4 of 4 up, generation 7
    release   7 (v7), current for 2h: /srv/web/releases/7, bin/server of 2026-11-22T08:35:29Z
    last      upgrade to generation 7, done 2h ago
    limits    workers start up to 2 at a time, one for each CPU; a worker above 500M is replaced
    listens   0.0.0.0:8080  [#####.....] 2100 of 4096, 17 overflows
    listens   udp:[::1]:53  [..........] 0 of 212992 bytes

    SLOT   PID  GEN  STATE  CPU  RSS    AGE  RESTARTS  SAYS, OR LAST DEATH
       0  4712    7  up       -    -  1d02h         0
       1  4713    7  up       -    -  1d02h         0  serving \u{1b}[31m3 requests and more
       2  4714    7  up       -    -  1d02h         0
       3  4715    7  up       -    -  1d02h         2  3m ago: SIGSEGV after 1m01s (pid 4700, generation 7)






    EVENTS
      0s  the master does not answer: cannot connect to /run/web/einhorn.sock: Connection refused (os error 111)
    u upgrade   a abort   r rollback   + more   - less   R replace   q quit
    ");
    insta::assert_snapshot!(drawn(&mut lost_state(), 80, 24), @r"
    lost      no answer for 12s: cannot connect to /run/web/einhorn.sock: Connectio…
              no master listens there; below is what was last known
    master    web, pid 4711, version 0.1.0, running, age 3d01h
    workers   4 of 4 up, generation 7
    release   7 (v7), current for 2h: /srv/web/releases/7, bin/server of 2026-11-22…
    last      upgrade to generation 7, done 2h ago
    limits    workers start up to 2 at a time, one for each CPU; a worker above 500…
    listens   0.0.0.0:8080  [#####.....] 2100 of 4096, 17 overflows
    listens   udp:[::1]:53  [..........] 0 of 212992 bytes

    SLOT   PID  GEN  STATE  CPU  RSS    AGE  RESTARTS  SAYS, OR LAST DEATH
       0  4712    7  up       -    -  1d02h         0
       1  4713    7  up       -    -  1d02h         0  serving \u{1b}[31m3 requests…
       2  4714    7  up       -    -  1d02h         0
       3  4715    7  up       -    -  1d02h         2  3m ago: SIGSEGV after 1m01s …






    EVENTS
      0s  the master does not answer: cannot connect to /run/web/einhorn.sock: Conn…
    u upgrade   a abort   r rollback   + more   - less   R replace   q quit
    ");
    insta::assert_snapshot!(drawn(&mut lost_state(), 60, 18), @r"
    lost      no answer for 12s: cannot connect to /run/web/ein…
              no master listens there; below is what was last k…
    master    web, pid 4711, version 0.1.0, running, age 3d01h
    workers   4 of 4 up, generation 7
    release   7 (v7), current for 2h: /srv/web/releases/7, bin/…
    last      upgrade to generation 7, done 2h ago
    listens   0.0.0.0:8080  [#####.....] 2100 of 4096, 17 overf…
    listens   udp:[::1]:53  [..........] 0 of 212992 bytes
    SLOT   PID  GEN  STATE  CPU  RSS    AGE  SAYS, OR LAST DEATH
       0  4712    7  up       -    -  1d02h
       1  4713    7  up       -    -  1d02h  serving \u{1b}[31m…
       2  4714    7  up       -    -  1d02h
       3  4715    7  up       -    -  1d02h  3m ago: SIGSEGV af…


    EVENTS
      0s  the master does not answer: cannot connect to /run/we…
    u upgrade a abort r rollback + more - less R replace q quit
    ");
}

#[test]
fn of_five_hundred_slots_a_window_is_shown_that_follows_the_selection() {
    let mut state = with_events(State::new(picture(status(500))));
    for _ in 0..3 {
        drawn(&mut state, 80, 24);
        state.key(Key::PageDown);
    }
    insta::assert_snapshot!(drawn(&mut state, 120, 24), @r"
    master    web, pid 4711, version 0.1.0, running, age 3d01h
    workers   500 of 500 up, generation 7, 406M, 26% CPU
    release   7 (v7), current for 3d: /srv/web/releases/7, bin/server of 2026-11-22T08:35:29Z
    limits    workers start up to 2 at a time, one for each CPU; a worker above 500M is replaced
    listens   0.0.0.0:8080  [#####.....] 2100 of 4096, 17 overflows
    listens   udp:[::1]:53  [..........] 0 of 212992 bytes

    SLOT   PID  GEN  STATE    CPU           RSS    AGE  RESTARTS  SAYS, OR LAST DEATH
      21  4733    7  up      136%  121M of 500M  1d02h         0
      22  4734    7  up      143%  122M of 500M  1d02h         0
      23  4735    7  up      150%  123M of 500M  1d02h         0
      24  4736    7  up      156%  124M of 500M  1d02h         0
      25  4737    7  up      162%  125M of 500M  1d02h         0
      26  4738    7  up      169%  126M of 500M  1d02h         0
      27  4739    7  up      176%  127M of 500M  1d02h         0
      28  4740    7  up      182%  128M of 500M  1d02h         0
      29  4741    7  up      188%  129M of 500M  1d02h         0
      30  4742    7  up      195%  130M of 500M  1d02h         0

    EVENTS
      2m  upgrade to generation 8 of 4 workers began
     12s  slot 1: worker 4802 (generation 8) spawned, index 4
      0s  slot 3: worker 4715 (generation 7) was killed by SIGSEGV \u{202e}after 1d02h
    u upgrade   a abort   r rollback   + more   - less   R replace   q quit   31 of 500
    ");
    insta::assert_snapshot!(drawn(&mut state, 80, 24), @r"
    master    web, pid 4711, version 0.1.0, running, age 3d01h
    workers   500 of 500 up, generation 7, 406M, 26% CPU
    release   7 (v7), current for 3d: /srv/web/releases/7, bin/server of 2026-11-22…
    limits    workers start up to 2 at a time, one for each CPU; a worker above 500…
    listens   0.0.0.0:8080  [#####.....] 2100 of 4096, 17 overflows
    listens   udp:[::1]:53  [..........] 0 of 212992 bytes

    SLOT   PID  GEN  STATE    CPU           RSS    AGE  RESTARTS  SAYS, OR LAST DEA…
      21  4733    7  up      136%  121M of 500M  1d02h         0
      22  4734    7  up      143%  122M of 500M  1d02h         0
      23  4735    7  up      150%  123M of 500M  1d02h         0
      24  4736    7  up      156%  124M of 500M  1d02h         0
      25  4737    7  up      162%  125M of 500M  1d02h         0
      26  4738    7  up      169%  126M of 500M  1d02h         0
      27  4739    7  up      176%  127M of 500M  1d02h         0
      28  4740    7  up      182%  128M of 500M  1d02h         0
      29  4741    7  up      188%  129M of 500M  1d02h         0
      30  4742    7  up      195%  130M of 500M  1d02h         0

    EVENTS
      2m  upgrade to generation 8 of 4 workers began
     12s  slot 1: worker 4802 (generation 8) spawned, index 4
      0s  slot 3: worker 4715 (generation 7) was killed by SIGSEGV \u{202e}after 1d…
    u upgrade   a abort   r rollback   + more   - less   R replace   q quit   31 of…
    ");
    insta::assert_snapshot!(drawn(&mut state, 60, 18), @"
    master    web, pid 4711, version 0.1.0, running, age 3d01h
    workers   500 of 500 up, generation 7, 406M, 26% CPU
    release   7 (v7), current for 3d: /srv/web/releases/7, bin/…
    limits    workers start up to 2 at a time, one for each CPU…
    listens   0.0.0.0:8080  [#####.....] 2100 of 4096, 17 overf…
    listens   udp:[::1]:53  [..........] 0 of 212992 bytes
    SLOT   PID  GEN  STATE    CPU   RSS    AGE  SAYS, OR LAST D…
      25  4737    7  up      162%  125M  1d02h
      26  4738    7  up      169%  126M  1d02h
      27  4739    7  up      176%  127M  1d02h
      28  4740    7  up      182%  128M  1d02h
      29  4741    7  up      188%  129M  1d02h
      30  4742    7  up      195%  130M  1d02h

    EVENTS
     12s  slot 1: worker 4802 (generation 8) spawned, index 4
      0s  slot 3: worker 4715 (generation 7) was killed by SIGS…
    u upgrade a abort r rollback + more - less R replace q quit…
    ");
}

#[test]
fn a_terminal_of_any_size_is_drawn_on() {
    for (columns, rows) in [(1, 1), (2, 3), (20, 2), (30, 5), (30, 6), (200, 3), (500, 100)] {
        for mut state in [with_events(State::new(upgrading())), lost_state(), with_events(State::new(idle()))]
        {
            for bottom in [
                Bottom::Keys,
                Bottom::Question(Order::Grow, "one more?".to_owned()),
                Bottom::Said("word ".repeat(200), Style::Bad),
            ] {
                state.bottom = bottom;
                let drawn = drawn(&mut state, columns, rows);
                assert!(!drawn.trim().is_empty(), "{columns} x {rows}");
            }
        }
    }
}

#[test]
fn the_last_line_has_the_question_or_the_answer_in_a_few_lines() {
    let mut state = State::new(idle());
    state.key(Key::Char('u'));
    let last = |state: &mut State| drawn(state, 60, 18).lines().next_back().unwrap().to_owned();
    assert_eq!(last(&mut state), "replace 4 workers with ones from the current code? y/N");
    state.bottom = Bottom::Said(format!("{} end", "word ".repeat(20)), Style::Bad);
    let drawn = drawn(&mut state, 60, 18);
    let lines: Vec<_> = drawn.lines().collect();
    assert_eq!(lines[16..], ["word ".repeat(12).trim_end(), "word word word word word word word word end"]);
}

#[test]
fn without_colours_only_weight_and_the_selection_are_shown() {
    let has_colour = |is_coloured| {
        let buffer = buffer(&mut with_events(State::new(upgrading())), 120, 24, is_coloured);
        let coloured =
            buffer.content().iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count();
        let selected =
            buffer.content().iter().filter(|cell| cell.modifier.contains(Modifier::REVERSED)).count();
        assert_eq!(selected, 120, "one row");
        coloured > 0
    };
    assert!(has_colour(true));
    assert!(!has_colour(false));
}

#[test]
fn what_is_old_is_faint_and_what_is_new_is_not() {
    let buffer = buffer(&mut lost_state(), 80, 24, true);
    let is_faint = |row: u16| buffer[(12, row)].modifier.contains(Modifier::DIM);
    assert!(!is_faint(0), "that it is lost");
    assert!(is_faint(2), "the master");
}
