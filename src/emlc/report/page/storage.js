// Where decisions are kept: in the browser, of a file that is opened offline, or by the server, at once.

/** Decisions in the browser's storage. */
class BrowserStorage {
  constructor(identity) {
    this.key = `emlc-decisions-${identity}`;
    this.me = "";
    this.works = stored.works;
  }

  /** Decisions by reviewer, here one without a name, and by id; without those on a given label that has changed since. */
  read() {
    const entries = new Map();
    const shown = new Map(gallery.records.map((record) => [record.id, className(record.given)]));
    try {
      for (const [id, decision, label, given, suggested, chosen = ""] of JSON.parse(stored.read(this.key) ?? "[]")) {
        const isCurrent = given === (shown.get(id) ?? given); // of other samples nothing is known here
        if (KINDS.includes(decision) && isCurrent) entries.set(id, { decision, label, given, suggested, chosen });
      }
    } catch {
      entries.clear(); // what is stored under the key was not written by this page
    }
    return new Map([["", entries]]);
  }

  /** Keep all entries, of which some have changed; return whether that went well. */
  write(entries) {
    this.works = stored.write(this.key, JSON.stringify([...entries].map(([id, e]) => [id, e.decision, e.label, e.given, e.suggested, e.chosen])));
    return this.works;
  }

  /** Call `update` when another window has changed the decisions. */
  listen(update) {
    addEventListener("storage", (event) => event.key === this.key && update());
  }
}

const RETRY = 2000; // ms between attempts to reach a server that does not answer
const POLL = 4000; // ms between looks at what others have decided

/**
 * Decisions in the server's database. What it has not confirmed waits in the browser's storage, so that
 * neither a killed server nor a closed window loses a decision; each has a key, and is stored once.
 */
class ServerStorage {
  constructor(identity) {
    this.prefix = `emlc-unsent-${identity}-`;
    this.queueKey = this.prefix + Math.random().toString(36).slice(2);
    this.me = people.fit(stored.read("emlc-reviewer") ?? "");
    this.unfit = null; // the name that the server did not take, whose decisions wait for another one
    this.all = new Map(); // reviewer -> id -> entry
    this.number = 0; // of the last decision that is known
    this.problem = "";
    this.refused = "";
    this.queue = this.adopt();
    this.update = () => {};
  }

  get isNamed() {
    return this.me !== "" && this.unfit === null;
  }

  /** Take another name, which decisions get, too, that wait for one. */
  rename(name) {
    for (const action of this.queue) if (action.reviewer === this.unfit || action.reviewer === "") action.reviewer = name;
    if (this.unfit !== null) this.all.delete(this.unfit);
    this.unfit = null;
    this.me = name;
    this.remember();
    this.send();
  }

  get works() {
    return this.queue.length === 0 || stored.works;
  }

  /** What earlier windows could not send. */
  adopt() {
    this.adopted = stored.keys().filter((key) => key.startsWith(this.prefix));
    const actions = this.adopted.flatMap((key) => {
      try {
        return JSON.parse(stored.read(key));
      } catch {
        return [];
      }
    });
    return actions;
  }

  read() {
    for (const { reviewer, decisions } of this.queue) decisions.forEach((sent) => this.know(reviewer, sent, Infinity));
    return this.all;
  }

  know(reviewer, { id, decision, label, given, suggested, chosen, resolves, seen }, number) {
    if (!this.all.has(reviewer)) this.all.set(reviewer, new Map());
    const entries = this.all.get(reviewer);
    if (decision === "clear") entries.delete(id);
    else entries.set(id, { decision, label, given, suggested, chosen, resolves, seen, number });
  }

  write(_, changes) {
    const decisions = changes.map(([id, entry, before]) => ({
      key: crypto.getRandomValues(new Uint32Array(4)).join("-"),
      id,
      decision: entry?.decision ?? "clear",
      label: entry?.label ?? "",
      given: (entry ?? before).given,
      suggested: (entry ?? before).suggested,
      chosen: (entry ?? before).chosen ?? "",
      resolves: entry?.resolves ?? false,
      seen: entry?.seen ?? false,
    }));
    if (decisions.length === 0) return true;
    this.queue.push({ reviewer: this.me, decisions });
    this.remember();
    this.send();
    return stored.works;
  }

  remember() {
    if (this.queue.length === 0) [this.queueKey, ...this.adopted].forEach((key) => stored.remove(key));
    else stored.write(this.queueKey, JSON.stringify(this.queue));
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    while (this.queue.length > 0 && this.unfit === null) {
      const answer = await this.fetch("decisions", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(this.queue[0]) });
      if (answer === null) {
        await new Promise((resume) => setTimeout(resume, RETRY));
        continue;
      }
      if (answer.unfit_name) {
        this.unfit = this.queue[0].reviewer;
        this.refused = answer.problem;
        this.update();
        break;
      }
      const { decisions } = this.queue.shift();
      this.remember();
      if (answer.problem !== undefined) this.refuse(decisions.length, answer.problem);
      this.update(answer.problem !== undefined);
    }
    this.sending = false;
    await this.poll();
  }

  /** The answer of the server, or null if there is none, or no longer one for this page. */
  async fetch(path, options = {}) {
    try {
      const response = await fetch(path, { credentials: "same-origin", ...options });
      if (response.status === 403) this.problem = "The server was restarted: open the address that it prints now.";
      else if (!response.ok && response.status !== 422) this.problem = `The server answers with status ${response.status}.`;
      else {
        this.problem = "";
        return await response.json();
      }
    } catch {
      this.problem = "The server does not answer.";
    }
    this.update();
    return null;
  }

  async poll() {
    const answer = await this.fetch(`decisions?after=${this.number}`);
    if (answer === null) return;
    const unsent = new Set(this.queue.filter(({ reviewer }) => reviewer === this.me).flatMap(({ decisions }) => decisions.map(({ id }) => id)));
    for (const decision of answer.decisions) {
      if (decision.reviewer !== this.me || !unsent.has(decision.id)) this.know(decision.reviewer, decision, decision.number);
      this.number = Math.max(this.number, decision.number);
    }
    this.update(answer.decisions.length > 0);
  }

  /** Forget what the server does not take, and learn anew what it has. */
  refuse(count, problem) {
    this.refused = `${count} decisions were refused: ${problem}`;
    this.all.clear();
    this.number = 0;
  }

  listen(update) {
    this.update = update;
    this.send();
    setInterval(() => this.sending || this.poll(), POLL);
  }
}
