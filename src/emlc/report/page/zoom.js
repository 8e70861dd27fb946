// One sample at full size: an image that the wheel and buttons enlarge, or the whole text.

function makeZoom() {
  const dialog = byId("zoom");
  const stage = byId("zoom-stage");
  const LEAST = 0.1;
  const MOST = 40;
  const STEP = 40; // pixels that an arrow key moves the view by
  let view = { scale: 1, x: 0, y: 0 };
  let image = null;

  function place() {
    image.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    image.classList.toggle("pixels", view.scale >= 3);
    byId("zoom-scale").textContent = `${Math.round(100 * view.scale)} %`;
  }

  /** Enlarge by a factor, so that the point of the stage stays where it is. */
  function by(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
    if (image === null) return;
    const scale = Math.min(Math.max(view.scale * factor, LEAST), MOST);
    const ratio = scale / view.scale;
    view = { scale, x: x - ratio * (x - view.x), y: y - ratio * (y - view.y) };
    place();
  }

  /** Show the whole image at a scale, or as large as it fits. */
  function show(scale) {
    if (image === null || image.naturalWidth === 0) return;
    const fits = Math.min(stage.clientWidth / image.naturalWidth, stage.clientHeight / image.naturalHeight);
    view.scale = Math.min(scale ?? fits, MOST);
    view.x = (stage.clientWidth - view.scale * image.naturalWidth) / 2;
    view.y = (stage.clientHeight - view.scale * image.naturalHeight) / 2;
    place();
  }

  stage.addEventListener("wheel", (event) => {
    if (image === null) return;
    event.preventDefault();
    const { left, top } = stage.getBoundingClientRect();
    by(Math.exp(-event.deltaY / 300), event.clientX - left, event.clientY - top);
  }, { passive: false });
  stage.addEventListener("pointermove", (event) => {
    if (image === null || event.buttons !== 1) return;
    view.x += event.movementX;
    view.y += event.movementY;
    place();
  });
  /** Move the view over the image, so that what lies to the right and below comes in. */
  function pan(right, down) {
    view.x -= STEP * right;
    view.y -= STEP * down;
    place();
  }

  const KEYS = {
    ...{ "+": () => by(1.5), "-": () => by(1 / 1.5), 0: () => show(), 1: () => show(1) },
    ...{ ArrowLeft: () => pan(-1, 0), ArrowRight: () => pan(1, 0), ArrowUp: () => pan(0, -1), ArrowDown: () => pan(0, 1) },
  };
  stage.addEventListener("keydown", (event) => {
    if (image === null || event.ctrlKey || event.altKey || event.metaKey || !(event.key in KEYS)) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  byId("zoom-in").addEventListener("click", () => by(1.5));
  byId("zoom-out").addEventListener("click", () => by(1 / 1.5));
  byId("zoom-fit").addEventListener("click", () => show());
  byId("zoom-full").addEventListener("click", () => show(1));
  byId("zoom-close").addEventListener("click", () => dialog.close());

  async function text(record) {
    const words = element("p", { className: "whole" }, element("bdi", {}, record.content));
    stage.replaceChildren(words);
    if (!report.server) return;
    const response = await fetch(`texts/${record.row}`);
    if (response.ok) words.firstChild.textContent = await response.text();
  }

  return {
    onClose: (listener) => dialog.addEventListener("close", listener),
    open(record) {
      image = null;
      byId("zoom-title").replaceChildren(element("bdi", {}, record.id));
      for (const button of dialog.querySelectorAll(".of-image")) button.hidden = gallery.content !== "image";
      dialog.showModal();
      stage.focus();
      if (gallery.content === "text") return text(record);
      image = element("img", { src: report.server ? `images/${record.row}` : record.content, alt: `sample ${record.id}`, draggable: false });
      image.addEventListener("load", () => show());
      image.addEventListener("error", () => {
        image = null;
        stage.replaceChildren(element("p", { className: "note", role: "status" }, "The picture cannot be read."));
      });
      stage.replaceChildren(image);
      return undefined;
    },
  };
}
