// Finding what a page shows, for the scripts of the toolbar: components draw inside shadow roots of their own.

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// The elements of the page that fit a selector and can be seen, those in shadow roots too, from top to bottom.
function seen(selector, root = document.querySelector("[data-testid=stMain]")) {
  const found = [...root.querySelectorAll(selector)].filter((one) => one.checkVisibility());
  for (const host of root.querySelectorAll("*")) if (host.shadowRoot) found.push(...seen(selector, host.shadowRoot));
  return found.sort((one, other) => one.getBoundingClientRect().top - other.getBoundingClientRect().top);
}

// The slider of a film: of a scrubber its frames, of the plane its time, of the way from words to a picture its steps.
const FILMS = ".scrubber, .plane:has(.clock), .pipeline";
const sliderOf = (film) => film.querySelector(".bar > input[type=range], .clock input[type=range], .strips > input[type=range]");

function moveTo(slider, value) {
  slider.value = value;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
}
