// What the Lab says to the kernel, and which of the kernel's words are older than the hand's; no
// DOM. All views of one model share a Wire, so that their messages are numbered in one row.

const PATIENCE = 3000; // ms without a word from the kernel after a command
const AGAIN = 1000; // ms until what was not heard is said again, then twice as long each time
const LONGEST = 60_000; // ms
/** What JupyterLab and Voilà say of a kernel that will never answer this panel again. */
const GONE = ["restarting", "autorestarting", "terminating", "dead"];

export class Wire {
  constructor(model) {
    this.model = model;
    this.page = Math.random().toString(36).slice(2); // several pages may show one panel
    this.n = 0;
    this.unheard = []; // what was said, until the kernel has heard it; the oldest first
    this.waiting = {}; // control: value, until the next frame
    this.sent = {}; // control: { n, value }, until the kernel has heard it
    this.awaited = 0; // number of the last command
    this.silent = false;
    this.lost = false; // nothing more is said by itself
    this.views = new Set(); // functions to call when `silent` changes
    this.kernel = model.widget_manager?.kernel; // not everywhere
    this.hears = (_kernel, state) => { if (GONE.includes(state)) this.lose(); };
    this.lose = this.lose.bind(this);
  }

  // -- views

  /** Have a function called when `silent` changes. */
  join(tell) {
    if (this.views.size === 0) {
      this.kernel?.statusChanged?.connect(this.hears);
      this.kernel?.disposed?.connect(this.lose);
    }
    this.views.add(tell);
  }

  leave(tell) {
    this.views.delete(tell);
    if (this.views.size > 0) return;
    // Else the kernel would hold on to every panel that was ever shown.
    this.kernel?.statusChanged?.disconnect(this.hears);
    this.kernel?.disposed?.disconnect(this.lose);
  }

  get heard() {
    return this.model.get("_values").heard;
  }

  next() {
    // Another page may have counted on meanwhile.
    this.n = Math.max(this.n, this.heard) + 1;
    return this.n;
  }

  // -- controls

  /** A control moves: said once a frame, the last value. */
  set(name, value) {
    this.waiting[name] = value;
    this.frame ??= requestAnimationFrame(() => this.flush());
  }

  /** A control was let go: its value is said now, unless it was said already. */
  settle(name, value) {
    const known = this.latest(name) ?? this.model.get("_values").settings[name];
    if (known !== value) this.waiting[name] = value;
    this.flush();
  }

  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = undefined;
    const set = this.waiting;
    if (Object.keys(set).length === 0) return;
    this.waiting = {};
    const n = this.next();
    for (const [name, value] of Object.entries(set)) this.sent[name] = { n, value };
    this.say({ n, set });
  }

  /** Whether the kernel's value of a control is its answer to ours, or newer. */
  isAnswered(name) {
    if (name in this.waiting) return false;
    if (this.sent[name]?.n <= this.heard) delete this.sent[name];
    return !(name in this.sent);
  }

  /** What the hand has set a control to, while that is newer than the kernel's word. */
  latest(name) {
    return this.waiting[name] ?? this.sent[name]?.value;
  }

  // -- commands

  do(command, value) {
    this.flush(); // what was set before the command counts for it
    const n = this.next();
    this.awaited = n;
    this.wait();
    this.say(value === undefined ? { n, do: command } : { n, do: command, with: value });
    return n;
  }

  // -- nothing said is lost

  /**
   * Say something, and with it all that is not heard yet: a page that was just opened, or whose
   * connection was, may lose a message. The kernel takes each number of a page once.
   */
  say(message) {
    const again = this.unheard;
    this.send(again.length > 0 ? { ...message, again } : message);
    const last = again.at(-1);
    const both = last?.set && message.set; // a slider's last value is all that counts
    this.unheard = both
      ? [...again.slice(0, -1), { n: message.n, set: { ...last.set, ...message.set } }]
      : [...again, message];
    this.pause = AGAIN;
    this.repeatLater();
  }

  repeatLater() {
    clearTimeout(this.repetition);
    this.repetition = setTimeout(() => {
      this.forgetHeard();
      if (this.unheard.length === 0 || this.lost || this.pause > LONGEST) return;
      this.send({ n: this.unheard.at(-1).n, again: this.unheard });
      this.pause *= 2;
      this.repeatLater();
    }, this.pause);
  }

  forgetHeard() {
    // Not `heard`: another page's number says nothing of this page's words.
    const taken = this.model.get("_values").taken?.[this.page] ?? 0;
    this.unheard = this.unheard.filter((message) => message.n > taken);
  }

  send(message) {
    try {
      this.model.send({ page: this.page, ...message });
    } catch {
      this.lose(); // to a kernel that was restarted nothing can be sent
    }
  }

  /** From now on a silence counts; one that is being counted goes on. */
  wait() {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.turn(true);
    }, PATIENCE);
  }

  /** Anything came from the kernel. */
  arrived() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.lost = false;
    this.forgetHeard();
    this.turn(false);
    if (this.heard < this.awaited) this.wait();
  }

  /** The kernel that knew this panel is no more. */
  lose() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.lost = true;
    this.turn(true);
  }

  turn(silent) {
    if (silent === this.silent) return;
    this.silent = silent;
    for (const tell of this.views) tell();
  }
}
