// P: the page for a projector. Large type, controls away; arrows step the first film; Escape leaves.
// Only an attribute of the document changes, which page.css reads, so nothing of the page's state can be lost.

const ATTRIBUTE = "data-projector";
const MOVES = { ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1 }; // Page keys: what a presenter's remote sends
const HINT = "← → step · space plays";
const NEXT = ".st-key-tour_next a"; // of the tour
const html = document.documentElement;
const on = () => html.hasAttribute(ATTRIBUTE);
const buttons = new Set(); // of the pages that were opened

// Whether the keyboard belongs to an element: a field to type in, or a control that moves by arrows itself.
function typing(node) {
  return node.isContentEditable || node.matches?.("textarea, select, [role=combobox], input:not([type=range], [type=checkbox], [type=radio])");
}
const steers = (node) => node.matches?.("input[type=range], input[type=radio], [role=slider], [role=radio], [role=application], [role=option], canvas[tabindex]");

function turn(value) {
  html.toggleAttribute(ATTRIBUTE, value);
  for (const { button, hint } of buttons) {
    button.replaceChildren(...(value ? ["Leave ", element("kbd", { textContent: "Esc" })] : ["Projector ", element("kbd", { textContent: "P" })]));
    hint.textContent = value ? `${HINT}${document.querySelector(NEXT) ? " · N next stop" : ""}` : "";
  }
  document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0);
}

function step(by) {
  const [film] = seen(FILMS);
  const slider = film && sliderOf(film);
  if (!slider) return;
  if (film.matches(".plane")) { // between whose frames the slider moves smoothly: its own key knows the frames
    slider.dispatchEvent(new KeyboardEvent("keydown", { key: by > 0 ? "ArrowRight" : "ArrowLeft", bubbles: true }));
    return;
  }
  moveTo(slider, Number(slider.value) + by);
  slider.dispatchEvent(new Event("change", { bubbles: true })); // the frame goes into the address
}

function key(event) {
  const [node] = event.composedPath();
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing(node)) return;
  if (event.key === "p" || event.key === "P") turn(!on());
  else if (!on()) return;
  else if (event.key === "Escape") turn(false);
  else if (event.key in MOVES && !steers(node)) step(MOVES[event.key]);
  else if (event.key === " " && !node.matches?.("button, a, summary, input")) seen(FILMS)[0]?.querySelector("button.play").click();
  else if (event.key === "n" || event.key === "N") document.querySelector(NEXT)?.click();
  else return;
  event.preventDefault();
}

const mounted = new WeakMap(); // Streamlit calls again at every rerun

export default ({ parentElement }) => {
  document.addEventListener("keydown", key); // once: the same function is not added again
  if (!mounted.has(parentElement)) {
    const button = element("button", { type: "button", className: "projector", title: "Large type and no controls, for a lecture: press P" });
    const hint = element("output", { className: "hint" });
    const here = { button, hint };
    button.addEventListener("click", () => turn(!on()));
    parentElement.append(button, hint);
    buttons.add(here);
    mounted.set(parentElement, here);
    turn(on());
  }
  return () => {
    if (parentElement.isConnected) return;
    buttons.delete(mounted.get(parentElement));
    mounted.delete(parentElement);
  };
};
