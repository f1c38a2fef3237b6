/* Zoom and pan, one for all canvases: wheel, pinch, keys and dragging. */

const MOST = 32;
const KEYS = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, _: 1 / 1.5 };

/* `changed()` is called when the zoom is another. `zoom` is {scale, x, y}: the left upper corner in shares of the picture. */
export function zooming(root, changed) {
  const zoom = { scale: 1, x: 0, y: 0 };
  const fingers = new Map();
  let dragged = false;

  function set(scale, x, y) {
    zoom.scale = Math.min(Math.max(scale, 1), MOST);
    const most = 1 - 1 / zoom.scale;
    zoom.x = Math.min(Math.max(x, 0), most);
    zoom.y = Math.min(Math.max(y, 0), most);
    root.style.setProperty("--scale", zoom.scale);
    root.style.setProperty("--left", `${-100 * zoom.scale * zoom.x}%`);
    root.style.setProperty("--top", `${-100 * zoom.scale * zoom.y}%`);
    root.classList.toggle("ov-zoomed", zoom.scale > 1);
    changed();
  }

  /* Zoom so that what is at a place of the frame (shares of its sides) stays there. */
  function by(factor, across = 0.5, down = 0.5) {
    const scale = Math.min(Math.max(zoom.scale * factor, 1), MOST);
    set(scale, zoom.x + across / zoom.scale - across / scale, zoom.y + down / zoom.scale - down / scale);
  }

  function shareOf(event, view) {
    const box = view.root.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  function wheel(event, view) {
    const inwards = event.deltaY < 0;
    // What cannot be zoomed scrolls the page: outwards at the whole picture, inwards where the page is to be scrolled back.
    if (zoom.scale === 1 && (!inwards || window.scrollY > 0) && !event.ctrlKey) return;
    event.preventDefault();
    by(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), ...shareOf(event, view));
  }

  function move(event, view) {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = shareOf(event, view);
    const [across, down] = [now[0] - before[0], now[1] - before[1]];
    if (fingers.size === 2) pinch(event.pointerId, before, now);
    else if (zoom.scale > 1 && !view.drags && (dragged || Math.hypot(across, down) > 0.01)) {
      dragged = true;
      set(zoom.scale, zoom.x - across / zoom.scale, zoom.y - down / zoom.scale);
    } else return;
    fingers.set(event.pointerId, now);
  }

  function pinch(finger, before, now) {
    const [, other] = [...fingers].find(([id]) => id !== finger);
    const far = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]);
    dragged = true;
    if (far(before) > 0) by(far(now) / far(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  }

  function linked(view) {
    const { root: box } = view;
    box.addEventListener("wheel", (event) => wheel(event, view), { passive: false });
    box.addEventListener("pointerdown", (event) => {
      if (fingers.size === 0) dragged = false;
      fingers.set(event.pointerId, shareOf(event, view));
    });
    box.addEventListener("pointermove", (event) => move(event, view));
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) box.addEventListener(name, (event) => fingers.delete(event.pointerId));
    /* Letting go of the picture is no click. */
    box.addEventListener("click", (event) => dragged && event.stopPropagation(), true);
  }

  /* Whether a key was one of these. */
  function pressed(event) {
    if (event.key === "0") set(1, 0, 0);
    else if (KEYS[event.key]) by(KEYS[event.key]);
    else return false;
    return true;
  }

  return { zoom, linked, pressed, reset: () => set(1, 0, 0) };
}
