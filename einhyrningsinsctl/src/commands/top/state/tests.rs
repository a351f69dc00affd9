use super::*;
use crate::commands::top::fixtures::{event, idle, lost, picture, status, upgrading};

fn press(state: &mut State, key: Key) -> Effect {
    state.key(key)
}

fn type_key(state: &mut State, key: char) -> Effect {
    press(state, Key::Char(key))
}

fn control(state: &mut State, key: char) -> Effect {
    state.key(Key::Control(key))
}

#[track_caller]
fn said(state: &State) -> &str {
    match &state.bottom {
        Bottom::Said(text, _) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_change_is_asked_first_and_sent_by_y_alone() {
    let replace = Order::Replace { slot: Some(0), pid: Some(4712) };
    for (key, order, question) in [
        ('u', Order::Upgrade, "replace 4 workers with ones from the current code?"),
        ('r', Order::Rollback, "go back to the previous release?"),
        ('+', Order::Grow, "add a worker: 4 -> 5?"),
        ('-', Order::Shrink, "remove a worker, draining it: 4 -> 3?"),
        ('R', replace, "replace worker 4712 of slot 0, its successor first?"),
    ] {
        let mut state = State::new(idle());
        for no in [Key::Char('n'), Key::Other, Key::Esc, Key::Char('q'), Key::Char(key)] {
            assert_eq!(type_key(&mut state, key), Effect::Nothing, "{key}");
            assert_eq!(state.bottom, Bottom::Question(order, question.to_owned()));
            assert_eq!(press(&mut state, no), Effect::Nothing, "{key}, then {no:?}");
            assert!(said(&state).ends_with(": not done"), "{}", said(&state));
        }
        for yes in ['y', 'Y'] {
            type_key(&mut state, key);
            assert_eq!(type_key(&mut state, yes), Effect::Send(order));
            assert_eq!(said(&state), format!("{}: sent", order.name()));
        }
        // A y without a question is none.
        assert_eq!(type_key(&mut state, 'y'), Effect::Nothing);
    }
}

#[test]
fn an_abort_is_asked_only_while_something_runs() {
    let mut state = State::new(idle());
    type_key(&mut state, 'a');
    assert_eq!(said(&state), "no upgrade runs");
    state.see(upgrading());
    type_key(&mut state, 'a');
    let question = "abort the upgrade to generation 8 and roll it back?".to_owned();
    assert_eq!(state.bottom, Bottom::Question(Order::Abort, question));
}

#[test]
fn a_lost_master_is_asked_for_nothing() {
    let mut state = State::new(lost());
    for key in ['u', 'a', 'r', '+', '-', 'R'] {
        type_key(&mut state, key);
        assert_eq!(said(&state), "the master does not answer");
        assert_eq!(type_key(&mut state, 'y'), Effect::Nothing);
    }
}

#[test]
fn keys_end_suspend_and_draw_again() {
    let mut state = State::new(idle());
    assert_eq!(type_key(&mut state, 'q'), Effect::Quit);
    assert_eq!(press(&mut state, Key::Esc), Effect::Quit);
    assert_eq!(control(&mut state, 'z'), Effect::Suspend);
    assert_eq!(control(&mut state, 'l'), Effect::Redraw);
    // These are not u and y.
    assert_eq!(control(&mut state, 'u'), Effect::Nothing);
    assert_eq!(state.bottom, Bottom::Keys);
    type_key(&mut state, 'u');
    assert_eq!(control(&mut state, 'y'), Effect::Nothing);
    assert!(matches!(state.bottom, Bottom::Question(Order::Upgrade, _)));
    assert_eq!(control(&mut state, 'c'), Effect::Quit, "also at a question");
}

#[test]
fn the_answer_is_shown_until_the_next_key_and_disturbs_no_question() {
    let mut state = State::new(idle());
    let answer = |is_ok, text: &str| Answer { order: Order::Grow, is_ok, text: text.to_owned() };
    state.answer(&answer(true, "number of workers 4 -> 5"));
    assert_eq!(state.bottom, Bottom::Said("number of workers 4 -> 5".to_owned(), Style::Good));
    type_key(&mut state, 'x');
    assert_eq!(state.bottom, Bottom::Keys);
    state.answer(&answer(false, ""));
    assert_eq!(state.bottom, Bottom::Said("one more: refused".to_owned(), Style::Bad));
    type_key(&mut state, 'u');
    state.answer(&answer(false, "inc refused: the master is stopping"));
    assert!(matches!(state.bottom, Bottom::Question(Order::Upgrade, _)));
    let last = state.recent.iter().next_back().unwrap();
    assert_eq!(
        (last.severity, last.message.as_str()),
        (Severity::Error, "inc refused: the master is stopping")
    );
}

#[test]
fn a_rollout_without_its_answer_is_known_at_the_end() {
    let mut state = State::new(idle());
    let send = |state: &mut State, key| {
        type_key(state, key);
        type_key(state, 'y');
    };
    send(&mut state, '+');
    assert!(!state.awaits_rollout(), "it is answered at once");
    send(&mut state, 'u');
    assert!(state.awaits_rollout());
    state.answer(&Answer { order: Order::Upgrade, is_ok: true, text: String::new() });
    assert!(!state.awaits_rollout());
}

#[test]
fn the_selection_moves_by_rows_and_pages_and_stays_inside() {
    let mut state = State::new(picture(status(50)));
    state.scroll(10, 50);
    for (key, row, first) in [
        (Key::Up, 0, 0),
        (Key::Down, 1, 0),
        (Key::PageDown, 11, 2),
        (Key::Char('j'), 12, 3),
        (Key::Char('k'), 11, 3),
        (Key::End, 49, 40),
        (Key::Down, 49, 40),
        (Key::PageUp, 39, 39),
        (Key::Home, 0, 0),
    ] {
        press(&mut state, key);
        assert_eq!((state.selected, state.scroll(10, 50)), (row, first), "{key:?}");
    }
    press(&mut state, Key::End);
    // A terminal that became larger shows no less than it can, and one without room the selected row alone.
    assert_eq!(state.scroll(60, 50), 0);
    assert_eq!(state.scroll(0, 50), 49);
}

#[test]
fn the_selection_follows_its_worker_and_then_its_slot() {
    let mut state = State::new(idle());
    press(&mut state, Key::End);
    press(&mut state, Key::Up);
    assert_eq!(state.selected, 2);
    // The successor of the slot above has a row of its own: slot 2 is further down.
    state.see(upgrading());
    assert_eq!(state.selected, 3);
    press(&mut state, Key::Home);
    // Its worker has gone, and the slot has another one.
    state.see(idle());
    assert_eq!(state.selected, 0);
    type_key(&mut state, 'R');
    assert!(matches!(state.bottom, Bottom::Question(Order::Replace { pid: Some(4712), .. }, _)));
    // Fewer rows than before.
    let mut state = State::new(picture(status(4)));
    press(&mut state, Key::End);
    state.see(picture(status(2)));
    assert_eq!(state.selected, 1);
}

#[test]
fn a_slot_without_a_worker_has_none_to_replace() {
    let mut picture = idle();
    picture.status.as_mut().unwrap().workers.remove(0);
    let mut state = State::new(picture);
    type_key(&mut state, 'R');
    assert_eq!(said(&state), "slot 0 has no worker to replace");
}

#[test]
fn a_master_that_is_lost_and_back_is_an_event_and_decisions_are_none() {
    let mut state = State::new(idle());
    state.see(lost());
    state.see(lost());
    state.see(idle());
    state.hear(event(0, Severity::Debug, "slot 1 says: hello"));
    state.hear(event(0, Severity::Warn, "slot 1: worker 7 died"));
    let heard: Vec<_> = state.recent.iter().map(|event| event.message.as_str()).collect();
    let why = "cannot connect to /run/web/einhorn.sock: Connection refused (os error 111)";
    let lost = format!("the master does not answer: {why}");
    assert_eq!(heard, [lost.as_str(), "master 4711 answers", "slot 1: worker 7 died"]);
}
