// What every widget's view is made of: elements and their texts. What comes from data or from
// typing goes through textContent and setAttribute, never through HTML. Views are joined behind
// this file.

const SVG = "http://www.w3.org/2000/svg";

function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** JupyterLab takes arrow keys and Delete for itself, except from elements that say so. */
function keepKeys(place) {
  // It looks at the element with the focus before any around it, so each has to say it.
  for (const control of place.querySelectorAll("input, select, button, [tabindex]"))
    control.setAttribute("data-lm-suppress-shortcuts", "true");
}
