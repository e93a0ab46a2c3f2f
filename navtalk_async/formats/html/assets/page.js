// What every page has: keys, and what is folded opens for printing. Nothing here makes HTML of a text.
"use strict";

const ROWS = ".said, #list tbody tr, #hits > li";

function isTyping(target) {
  return target.closest("input, select, textarea, video") !== null;
}

function step(by) {
  const rows = [...document.querySelectorAll(ROWS)];
  const held = document.activeElement.closest(ROWS);
  const seen = rows.findIndex((row) => row.getBoundingClientRect().bottom > 0);
  const at = held ? rows.indexOf(held) + by : Math.max(0, seen);
  const link = rows[Math.min(Math.max(at, 0), rows.length - 1)]?.querySelector("a");
  link?.focus({ preventScroll: true });
  link?.closest(ROWS).scrollIntoView({ block: "nearest" });
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  ArrowLeft: () => document.querySelector("[rel=prev]:not(link)")?.click(),
  ArrowRight: () => document.querySelector("[rel=next]:not(link)")?.click(),
  "/": () => {
    const field = document.querySelector("input[type=search]");
    if (field) field.focus();
    else document.querySelector("[data-search]").click();
  },
};

addEventListener("keydown", (event) => {
  const act = event.ctrlKey || event.altKey || event.metaKey ? undefined : KEYS[event.key];
  if (act && !isTyping(event.target)) {
    event.preventDefault();
    act();
  }
});

addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details.rest")) each.open = true;
});

// Data stands in scripts, which a browser also loads from a disk; each is loaded once.
const waiting = new Map();
const loading = new Map();

function navtalkData(name, value) {
  waiting.get(name)?.(value);
}

function load(folder, name) {
  if (!loading.has(name)) {
    loading.set(name, new Promise((resolve, reject) => {
      const script = document.createElement("script");
      waiting.set(name, resolve);
      script.onload = () => script.remove();
      script.onerror = () => reject(new Error(`The file ${folder}${name}.js cannot be read.`));
      script.src = `${folder}${name}.js`;
      document.head.append(script);
    }));
  }
  return loading.get(name);
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Links of the pages of a list that a script shows.
function showSteps(nav, page, pages, go) {
  const button = (text, to, rel, mark) => {
    const made = element("button", { type: "button", rel, class: rel === "next" ? "later" : "" }, text);
    made.prepend(...(rel === "prev" ? [mark] : []));
    made.append(...(rel === "next" ? [mark] : []));
    made.addEventListener("click", () => go(to));
    return made;
  };
  nav.replaceChildren(
    ...(page > 0 ? [button("Previous page", page - 1, "prev", "← ")] : []),
    ...(pages > 1 ? [element("span", { class: "pages" }, `Page ${page + 1} of ${pages.toLocaleString("en")}`)] : []),
    ...(page + 1 < pages ? [button("Next page", page + 1, "next", " →")] : []),
  );
}
