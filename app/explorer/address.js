// Writes the page's settings into the browser's address and replaces the history entry, so that Back leaves the page.
// data: { query: all settings but the films' frames, films: the films' keys, page: "" for the first, at: the time of writing }

let newest = 0;

export default ({ data }) => {
  const { query, films, page, at } = data;
  if (at < newest) return; // another part of the page has written since
  newest = at;
  const here = new URL(window.location.href);
  const last = here.pathname.split("/").pop();
  if (page && last !== page) return; // the visitor has left
  const next = new URLSearchParams(query);
  for (const [key, value] of here.searchParams) {
    if (films.includes(key) || /^embed(_options)?$/i.test(key)) next.append(key, value);
  }
  if (next.toString() === here.searchParams.toString()) return;
  here.search = next.toString();
  window.history.replaceState(window.history.state, "", here);
};
