// The list of sessions: filter, order, pages. Its rows come from the files of data.
"use strict";

{
  const A_LIST = 100;
  const table = document.getElementById("list");
  const [form] = document.forms;
  const count = form.querySelector("output");
  const { data, lists } = table.dataset;
  const several = table.tHead.rows[0].cells.length > 6;
  const order = new Intl.Collator("en", { numeric: true });
  const state = { sort: "-started", page: 0, rows: [], sorted: [], found: [], written: [] };

  // The columns of a row in the files of data.
  const [ADDRESS, TITLE, ID, STARTED, LASTED, STATUS, USER, MESSAGES, PROJECT, DELETED, DURATION] = Array(11).keys();
  const FIELDS = { started: STARTED, title: TITLE, status: STATUS, user: USER, messages: MESSAGES, lasted: LASTED };

  const isPlain = /^[\0-\x7f]*$/;
  const fold = (text) => (isPlain.test(text) ? text : text.normalize("NFKD").replace(/\p{M}/gu, "")).toLowerCase();

  // It is made when it is first looked for: nobody waits for it before.
  function textOf(each) {
    each.text ??= fold([TITLE, ID, STARTED, STATUS, USER, PROJECT].map((at) => each.row[at]).join("\n"));
    return each.text;
  }

  // Sessions without a value stand last in both orders.
  function arrange() {
    const field = FIELDS[state.sort.replace("-", "")];
    const sign = state.sort.startsWith("-") ? -1 : 1;
    const compare = field === STARTED ? (one, other) => (one < other ? -1 : 1) : order.compare;
    state.sorted = state.rows.toReversed().sort(({ row: { [field]: one } }, { row: { [field]: other } }) => {
      if (one === other) return 0;
      if (one === null || one === "") return 1;
      if (other === null || other === "") return -1;
      return sign * (typeof one === "number" ? one - other : compare(one, other));
    });
    for (const head of table.tHead.querySelectorAll("[data-sort]")) {
      const isChosen = FIELDS[head.dataset.sort] === field;
      if (isChosen) head.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  function find() {
    const words = fold(form.q.value).split(/\s+/).filter(Boolean);
    const status = form.status.value;
    const isFound = (each) => (!status || each.row[STATUS] === status) && words.every((word) => textOf(each).includes(word));
    state.found = state.sorted.filter(isFound);
    show(0);
  }

  function cell(name, kind, text) {
    return element(name, kind ? { class: kind } : {}, ...(text ? [element("bdi", {}, text)] : []));
  }

  function shown({ row }) {
    const title = element("th", { scope: "row" }, element("a", { href: row[ADDRESS] }, element("bdi", {}, row[TITLE])));
    if (row[TITLE] !== row[ID]) title.append(element("small", {}, element("bdi", {}, row[ID])));
    if (row[DELETED]) title.append(" ", element("span", { class: "kind" }, "deleted"));
    const status = element("td", {}, ...(row[STATUS] ? [element("span", { class: "status", "data-status": row[STATUS] }, element("bdi", {}, row[STATUS]))] : []));
    return element("tr", {},
      cell("td", "time", row[STARTED]), title, status, cell("td", "user", row[USER]),
      cell("td", "number", row[MESSAGES].toLocaleString("en")), cell("td", "number", row[DURATION]),
      ...(several ? [cell("td", "", row[PROJECT])] : []));
  }

  function show(page) {
    state.page = page;
    const total = state.found.length;
    const rows = state.found.slice(page * A_LIST, (page + 1) * A_LIST);
    const isWritten = rows.length === state.written.length && rows.every(({ row }, at) => row === state.written[at]);
    if (!isWritten) table.tBodies[0].replaceChildren(...rows.map(shown));
    state.written = [];
    count.textContent = `${total.toLocaleString("en")} ${total === 1 ? "session" : "sessions"}`;
    showSteps(document.getElementById("steps"), page, Math.ceil(total / A_LIST), (to) => {
      show(to);
      table.scrollIntoView();
    });
    remember();
  }

  // What is shown is part of the address: it survives the way back from a session.
  function remember() {
    clearTimeout(state.timer);
    state.timer = setTimeout(() => {
      const now = { q: form.q.value, status: form.status.value, sort: state.sort, page: state.page };
      history.replaceState(null, "", `#${new URLSearchParams(now)}`);
    }, 200);
  }

  function sortBy(key) {
    state.sort = state.sort === `-${key}` ? key : `-${key}`;
    arrange();
    find();
  }

  async function start() {
    const before = new URLSearchParams(location.hash.slice(1));
    form.q.value = before.get("q") ?? form.q.value;
    form.status.value = before.get("status") ?? "";
    const parts = await Promise.all(Array.from({ length: Number(lists) }, (_, at) => load(data, `list-${at}`)));
    const rows = parts.flat();
    state.rows = rows.map((row) => ({ row }));
    // The rows that the page was written with.
    state.written = rows.slice(-A_LIST).toReversed();
    for (const head of table.tHead.querySelectorAll("[data-sort]")) {
      const button = element("button", { type: "button" }, head.textContent);
      button.addEventListener("click", () => sortBy(head.dataset.sort));
      head.replaceChildren(button);
    }
    const sort = before.get("sort") ?? "";
    if (Object.hasOwn(FIELDS, sort.replace("-", ""))) state.sort = sort;
    arrange();
    find();
    const page = Number(before.get("page"));
    if (page > 0 && page * A_LIST < state.found.length) show(page);
    form.addEventListener("input", find);
    form.addEventListener("submit", (event) => event.preventDefault());
    document.documentElement.dataset.ready = "list";
  }

  start();
}
