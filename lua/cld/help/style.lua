--- The style of the help pages, and the script of their search box.
local style = {}

style.css = [[
:root { color-scheme: light dark; --text: #1d2126; --back: #ffffff; --soft: #f3f5f7; --line: #d5dae0; --link: #0b57a4; }
@media (prefers-color-scheme: dark) {
  :root { --text: #dfe3e8; --back: #15181c; --soft: #20252b; --line: #39414a; --link: #7db7f5; }
}
* { box-sizing: border-box; }
body { margin: 0; display: flex; color: var(--text); background: var(--back); line-height: 1.5;
  font-family: system-ui, sans-serif; }
a { color: var(--link); text-decoration: none; }
a:hover { text-decoration: underline; }
nav { flex: 0 0 15rem; padding: 1rem; height: 100vh; position: sticky; top: 0; overflow-y: auto;
  border-right: 1px solid var(--line); font-size: 0.9rem; }
nav h2 { font-size: 0.9rem; margin: 1rem 0 0.2rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav input { width: 100%; padding: 0.3rem; color: inherit; background: var(--soft); border: 1px solid var(--line); }
main { flex: 1 1 auto; min-width: 0; max-width: 60rem; padding: 1rem 2rem 4rem; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; }
pre { background: var(--soft); border: 1px solid var(--line); padding: 0.6rem; overflow-x: auto; }
h3 { font-weight: 600; margin: 0; overflow-wrap: anywhere; }
section { border-top: 1px solid var(--line); padding: 0.8rem 0; }
section:target { background: var(--soft); }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: 0.15rem 0.8rem 0.15rem 0; overflow-wrap: anywhere; }
table.contents td:first-child { white-space: nowrap; width: 1%; }
tr + tr td { border-top: 1px solid var(--line); }
.place { color: inherit; opacity: 0.6; font-size: 0.8rem; margin: 0.3rem 0 0; }
@media (max-width: 45rem) {
  body { display: block; }
  nav { height: auto; position: static; border-right: 0; border-bottom: 1px solid var(--line); max-height: 12rem; }
  main { padding: 1rem; }
  table.names tr { display: block; padding: 0.3rem 0; border-top: 1px solid var(--line); }
  table.names tr:first-child { display: none; }
  table.names td { display: block; padding: 0; border-top: 0; }
  table.names td + td { padding-left: 1.5rem; }
}
]]

-- A format for string.format, which inserts the names.
style.search = [[
const names = %s;
const box = document.getElementById("search"), list = document.getElementById("found");
box.addEventListener("input", () => {
  const word = box.value.trim().toLowerCase();
  list.textContent = "";
  if (!word) return;
  const hits = names.filter(n => n[0].toLowerCase().includes(word));
  const end = n => n[0].split(/[.:]/).pop().toLowerCase();
  hits.sort((a, b) => (end(b) === word) - (end(a) === word) || end(b).startsWith(word) - end(a).startsWith(word));
  for (const [name, page] of hits.slice(0, 30)) {
    const item = document.createElement("li"), link = document.createElement("a");
    link.href = page;
    link.textContent = name;
    item.appendChild(link);
    list.appendChild(item);
  }
});
]]

return style
