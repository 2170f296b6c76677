// @ts-check
// What a page does: light and dark, code shown or folded, tables sorted. Choices are
// kept for the next page. Without this script every page can still be read.
"use strict";

const root = document.documentElement;

/** @param {string} name */
function recall(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}

/** @param {string} name @param {string} value */
function remember(name, value) {
  try { localStorage.setItem(name, value); } catch { /* a browser may refuse */ }
}

// At once, so that a dark page does not flash white.
root.dataset.theme = recall("theme") || "";

function isDark() {
  const chosen = root.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** @param {HTMLElement} button */
function switchTheme(button) {
  const show = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember("theme", root.dataset.theme);
    show();
  });
  show();
}

/** @param {HTMLElement} button */
function switchCode(button) {
  /** @type {NodeListOf<HTMLDetailsElement>} */
  const cells = document.querySelectorAll("details.code");
  const show = (/** @type {boolean} */ open) => {
    cells.forEach((cell) => { cell.open = open; });
    button.setAttribute("aria-pressed", String(open));
    const verb = document.createElement("span");  // not shown on a phone
    verb.textContent = open ? "Hide " : "Show ";
    button.replaceChildren(verb, "code");
    button.setAttribute("aria-label", `${verb.textContent}code`);
  };
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-pressed") !== "true";
    remember("code", open ? "open" : "folded");
    show(open);
  });
  show(recall("code") === "open");
}

// Code cells that follow each other with no output between share one fold.
function foldTogether() {
  document.querySelectorAll("details.code").forEach((fold) => {
    const cell = fold.closest(".jp-Cell"), before = cell && cell.previousElementSibling;
    const earlier = before && before.querySelector("details.code");
    if (!earlier || before.querySelector(".jp-OutputArea, .jp-Cell-outputWrapper *")) return;
    [...earlier.children].slice(1).reverse().forEach((part) => fold.children[0].after(part));
    before.remove();
  });
}

/** @param {string} a @param {string} b */
function compare(a, b) {
  const [one, two] = [a, b].map((text) => {
    // A number, or one with its interval, such as "98.5 to 99.1" or "-0.29 (-0.6 to 0)";
    // not a date or a time.
    const number = text.replace(/[,+]/g, "").match(/^(-?\d+(\.\d+)?)( (to|\().*)?$/);
    return number ? Number(number[1]) : null;
  });
  if (one !== null && two !== null) return one - two;
  return a.localeCompare(b);
}

/** @param {HTMLTableElement} table @param {number} column @param {Element} header */
function sortBy(table, column, header) {
  const descending = header.getAttribute("aria-sort") === "ascending";
  const body = table.tBodies[0];
  const text = (/** @type {HTMLTableRowElement} */ row) => (row.cells[column].textContent || "").trim();
  const rows = [...body.rows].sort((a, b) => {
    // Cells that are empty come last, whichever way.
    if (!text(a) || !text(b)) return (text(a) ? 0 : 1) - (text(b) ? 0 : 1);
    return compare(text(a), text(b)) * (descending ? -1 : 1);
  });
  table.querySelectorAll("thead th").forEach((th) => th.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  body.append(...rows);
}

/** @param {HTMLTableElement} table */
function sortable(table) {
  if (!table.tHead || !table.tBodies.length || table.tBodies[0].rows.length < 2) return;
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const name = (header.textContent || "").trim();
    if (!name) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.title = `Sort by ${name}`;
    button.addEventListener("click", () => sortBy(table, column, header));
    header.append(button);
  });
}

// A shadow, and a word, where a table or a figure goes on.
/** @param {HTMLElement} box */
function showsMore(box) {
  const hint = document.createElement("div");
  hint.className = "hint";
  hint.textContent = "scroll for more →";
  const update = () => {
    const left = box.scrollWidth - box.clientWidth - box.scrollLeft;
    box.classList.toggle("more-right", left > 1);
    box.classList.toggle("more-left", box.scrollLeft > 1);
    if (box.scrollWidth > box.clientWidth + 1) box.prepend(hint);
    else hint.remove();
  };
  box.addEventListener("scroll", update);
  new ResizeObserver(update).observe(box);
}

/** @param {Event} event */
function closeMenus(event) {
  document.querySelectorAll("header details[open]").forEach((menu) => {
    const away = event.type === "click" && !menu.contains(/** @type {Node} */ (event.target));
    if (away || /** @type {KeyboardEvent} */ (event).key === "Escape") menu.removeAttribute("open");
  });
}

document.addEventListener("click", closeMenus);
document.addEventListener("keydown", closeMenus);
document.addEventListener("DOMContentLoaded", () => {
  foldTogether();
  const theme = document.getElementById("theme-switch");
  const code = document.getElementById("code-switch");
  if (theme) switchTheme(theme);
  if (code) switchCode(code);
  document.querySelectorAll(".scroll table").forEach((table) => sortable(/** @type {HTMLTableElement} */ (table)));
  /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".scroll")).forEach(showsMore);
});
