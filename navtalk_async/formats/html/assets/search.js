// The search without a server. The words of messages stand in files of data, in their order; each with its
// places, counted through all messages, with one place left free behind each message. So the words of a
// phrase are at places that follow each other. Words, and what a search may ask for, are as in words.py.
"use strict";

{
  const A_PAGE = 20;
  const form = document.getElementById("search");
  const { data } = form.dataset;
  const list = document.getElementById("hits");
  const note = document.getElementById("note");
  const state = { hits: [], phrases: [] };
  let index;

  // Words.

  const folding = new Map();

  function folded(char) {
    let found = folding.get(char);
    if (found === undefined) {
      const plain = char.normalize("NFKD").replaceAll(index.ignored, "");
      found = [...plain.toLowerCase().toUpperCase().toLowerCase().normalize("NFC")].map(asWord).join("");
      folding.set(char, found);
    }
    return found;
  }

  function asWord(char) {
    const isLetter = /[\p{L}\p{N}\p{M}]/u.test(char);
    if (/\p{So}/u.test(char) || (isLetter && index.unspaced.test(char))) return ` ${char} `;
    if (/\p{Cf}/u.test(char) && char !== "\u200b") return "";
    return isLetter ? char : " ";
  }

  // The words of a text, each with where it starts and ends in it.
  function located(text) {
    const found = [];
    let word = null;
    let at = 0;
    for (const char of text) {
      for (const letter of folded(char)) {
        if (letter === " ") {
          word = null;
        } else {
          if (word === null || word.length === index.longest) found.push((word = { word: "", length: 0, from: at }));
          word.word += letter;
          word.length += 1;
          word.to = at + char.length;
        }
      }
      at += char.length;
    }
    return found;
  }

  const words = (text) => located(text.normalize("NFC")).map(({ word }) => word);

  // What a search asks for: {words, isPrefix}, {all, without} or {any}; null where there is no word to find.

  const TOKEN = /\s*(?:([()])|["“”„]([^"“”„]*)(["“”„]?)(\*?)|([^\s()"“”„]+))/gy;

  function parse(text) {
    if ([...text].length > 1000) throw new Error("The search is longer than 1,000 characters.");
    const tokens = text.trimEnd().matchAll(TOKEN);
    let token;
    const advance = () => {
      const match = tokens.next().value;
      if (match === undefined) token = "";
      else token = read(match);
    };
    const read = ([, parenthesis, quoted, closing, star, bare]) => {
      if (parenthesis || ["AND", "OR", "NOT"].includes(bare)) return parenthesis || bare;
      if (quoted !== undefined) {
        if (!closing) throw new Error(`A quotation mark has no second one in '${text}'.`);
        return { words: words(quoted), isPrefix: star !== "" };
      }
      const word = bare.replace(/^\*+|\*+$/g, "");
      if (word.includes("*") && words(word).length) {
        throw new Error(`A * stands at the end of a word, and not inside of one, as in '${bare}'.`);
      }
      return { words: words(word), isPrefix: bare.endsWith("*") };
    };
    const isOperand = () => typeof token !== "string" || token === "(";
    const anyOf = (depth) => {
      if (depth > 20) throw new Error("Parentheses are nested more than 20 deep.");
      if (token === "" || token === ")") return null;
      const parts = [allOf(depth)];
      while (token === "OR") {
        advance();
        parts.push(allOf(depth));
      }
      const found = parts.filter((part) => part !== null);
      return found.length > 1 ? { any: found } : (found[0] ?? null);
    };
    const allOf = (depth) => {
      const [all, without] = [[], []];
      for (;;) {
        let [side, other] = [all, without];
        for (; token === "NOT"; advance()) [side, other] = [other, side];
        const part = operand(depth);
        if (part !== null) side.push(part);
        if (token === "AND") advance();
        else if (!isOperand() && token !== "NOT") break;
      }
      if (without.length && !all.length) {
        throw new Error("NOT needs a word beside it that is to be found, as in: refund NOT card.");
      }
      if (all.length === 1 && !without.length) return all[0];
      return all.length ? { all, without } : null;
    };
    const operand = (depth) => {
      if (!isOperand()) {
        throw new Error(`AND, OR or NOT has no word beside it in '${text}'; as words, write them small.`);
      }
      const held = token;
      advance();
      if (typeof held !== "string") return held.words.length ? held : null;
      const found = anyOf(depth + 1);
      if (token !== ")") throw new Error(`There is a "(" without its ")" in '${text}'.`);
      advance();
      return found;
    };
    advance();
    const found = anyOf(0);
    if (token === ")") throw new Error(`There is a ")" without its "(" in '${text}'.`);
    if (found === null) throw new Error(`There is no word to find in '${text}'.`);
    return found;
  }

  // The index. Places and numbers of messages are sorted, each but once.

  async function open() {
    index = await load(data, "index");
    index.words = index.words.map(comparable);
    index.unspaced = new RegExp(index.unspaced, "u");
    index.ignored = new RegExp(index.ignored, "gu");
    const parts = await Promise.all(index.lists.map((_, at) => load(data, `counts-${at}`)));
    index.begins = new Float64Array(index.messages + 1);
    index.sides = new Uint8Array(index.messages);
    index.firsts = [];
    let message = 0;
    for (const counts of parts.flat()) {
      index.firsts.push(message);
      for (const count of counts) {
        index.sides[message] = count % 4;
        index.begins[message + 1] = index.begins[message] + Math.floor(count / 4) + 1;
        message += 1;
      }
    }
  }

  // The index of the last of *numbers* that is not above *number*, at or behind *at*.
  function lastBelow(numbers, number, at = 0) {
    let step = 1;
    while (at + step < numbers.length && numbers[at + step] <= number) {
      at += step;
      step *= 2;
    }
    for (; step >= 1; step /= 2) {
      if (at + step < numbers.length && numbers[at + step] <= number) at += step;
    }
    return at;
  }

  // Words are sorted by their code points, which JavaScript does not compare.
  const comparable = (word) => Array.from(word, (char) => char.codePointAt(0).toString(16).padStart(6, "0")).join("");

  async function placesOf(word, isPrefix) {
    const begin = comparable(word);
    const [from, to] = [begin, isPrefix ? `${begin}~` : begin].map((each) => lastBelow(index.words, each));
    const parts = await Promise.all(Array.from({ length: to - from + 1 }, (_, at) => load(data, `words-${from + at}`)));
    const found = [];
    for (const part of parts) {
      for (let at = 0; at < part.length; at += 2) {
        if (isPrefix ? part[at].startsWith(word) : part[at] === word) found.push(decoded(part[at + 1]));
      }
    }
    return found.length === 1 ? found[0] : sorted(found);
  }

  // Each place is written as how far it is behind the one before.
  function decoded(text) {
    const places = [];
    let place = 0;
    let number = 0;
    for (let at = 0; at <= text.length; at += 1) {
      const code = text.charCodeAt(at);
      if (code >= 48) {
        number = number * 10 + code - 48;
      } else {
        places.push((place += number));
        number = 0;
      }
    }
    return places;
  }

  function sorted(lists) {
    const all = Float64Array.from(lists.flat()).sort();
    return Array.from(all.filter((each, at) => at === 0 || all[at - 1] !== each));
  }

  // Those of *numbers* that are, with *more* added, among *others*; or that are not.
  function among(numbers, others, more = 0, isWanted = true) {
    let at = 0;
    return numbers.filter((number) => {
      if (others.length === 0) return !isWanted;
      at = lastBelow(others, number + more, at);
      return (others[at] === number + more) === isWanted;
    });
  }

  // The numbers of the messages that *query* asks for; *phrases* notes where phrases are that it asks for.
  async function found(query, phrases) {
    if (query.any) return sorted(await Promise.all(query.any.map((part) => found(part, phrases))));
    if (query.all) {
      const parts = await Promise.all(query.all.map((part) => found(part, phrases)));
      const without = await Promise.all(query.without.map((part) => found(part, [])));
      const rest = parts.reduce((some, part) => among(some, part));
      return without.reduce((some, part) => among(some, part, 0, false), rest);
    }
    const last = query.words.length - 1;
    const each = await Promise.all(query.words.map((word, at) => placesOf(word, query.isPrefix && at === last)));
    const places = each.reduce((some, others, at) => among(some, others, at));
    phrases.push({ places, length: query.words.length });
    const messages = [];
    let message = 0;
    for (const place of places) {
      message = lastBelow(index.begins, place, message);
      if (messages[messages.length - 1] !== message) messages.push(message);
    }
    return messages;
  }

  // What is shown.

  async function search() {
    const asked = form.q.value;
    state.asked = asked;
    note.textContent = "";
    if (!asked.trim()) return show([]);
    try {
      const phrases = [];
      await (state.opened ??= open());
      let hits = index.messages ? await found(parse(asked), phrases) : [];
      const side = ["", "user", "assistant"].indexOf(form.role.value);
      if (side > 0) hits = hits.filter((message) => index.sides[message] === side);
      if (state.asked !== asked) return;
      let session = 0;
      const sessions = new Set(hits.map((message) => (session = lastBelow(index.firsts, message, session)))).size;
      const [many, some] = [hits.length, sessions].map((count) => count.toLocaleString("en"));
      note.textContent = hits.length
        ? `${many} ${many === "1" ? "message" : "messages"} in ${some} ${some === "1" ? "session" : "sessions"}, the newest sessions first.`
        : "No message was found.";
      state.phrases = phrases;
      await show(hits.reverse());
    } catch (error) {
      note.textContent = error.message;
      show([]);
    }
  }

  async function show(hits, page = 0) {
    state.hits = hits;
    const some = await Promise.all(hits.slice(page * A_PAGE, (page + 1) * A_PAGE).map(hit));
    list.replaceChildren(...some);
    showSteps(document.getElementById("steps"), page, Math.ceil(hits.length / A_PAGE), (to) => {
      show(hits, to);
      note.scrollIntoView();
    });
    document.documentElement.dataset.ready = `search ${state.asked}`;
  }

  async function hit(message) {
    const session = lastBelow(index.firsts, message);
    const part = lastBelow(index.lists, session);
    const position = message - index.firsts[session];
    const block = lastBelow(index.texts, message);
    const [rows, texts] = await Promise.all([load(data, `list-${part}`), load(data, `texts-${block}`)]);
    const [address, title, , started] = rows[session - index.lists[part]];
    const page = Math.floor(position / index.page);
    const href = `${page ? address.replace(/\.html$/, `.${page + 1}.html`) : address}#m${position}`;
    const side = ["other", "user", "assistant"][index.sides[message]];
    const about = `${side} · #${position + 1} · session of ${started}`;
    return element("li", {},
      element("a", { href }, element("bdi", {}, title)), " ", element("span", { class: "by" }, about),
      element("p", { dir: "auto" }, ...snippet(texts[message - index.texts[block]].normalize("NFC"), message)));
  }

  // The text around the first words that were asked for.
  function snippet(text, message) {
    const begin = index.begins[message];
    const all = located(text);
    const marked = new Set();
    for (const { places, length } of state.phrases) {
      let at = lastBelow(places, begin - 0.5);
      if (places[at] < begin) at += 1;
      for (; places[at] < index.begins[message + 1]; at += 1) {
        for (let more = 0; more < length; more += 1) marked.add(places[at] - begin + more);
      }
    }
    const chosen = [];
    for (const { from, to } of [...marked].sort((one, other) => one - other).map((at) => all[at])) {
      const before = chosen[chosen.length - 1];
      if (before?.to === from) before.to = to;
      else chosen.push({ from, to });
    }
    const from = Math.max(0, (chosen[0]?.from ?? 0) - 90);
    const start = from && Math.max(from, text.indexOf(" ", from) < (chosen[0]?.from ?? 0) ? text.indexOf(" ", from) + 1 : from);
    const end = Math.min(text.length, start + 320);
    const made = start ? ["… "] : [];
    let done = start;
    for (const { from: first, to } of chosen) {
      if (first < done || to > end) continue;
      made.push(text.slice(done, first), element("mark", {}, text.slice(first, to)));
      done = to;
    }
    return [...made, text.slice(done, end), ...(end < text.length ? [" …"] : [])];
  }

  function begin() {
    const asked = new URLSearchParams({ q: form.q.value, role: form.role.value });
    history.replaceState(null, "", `#${asked}`);
    search();
  }

  const before = new URLSearchParams(location.hash.slice(1));
  form.q.value = before.get("q") ?? "";
  form.role.value = before.get("role") ?? "";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    begin();
  });
  form.role.addEventListener("change", begin);
  search();
}
