// of the likeliest classes
const SHOWN = 5;

const canvas = document.getElementById("canvas");
const view = canvas.getContext("2d");

function said(text) {
  const place = document.getElementById("failure");
  place.textContent = text;
  place.hidden = !text;
}

/* The middle of a video or picture, as networks of image folders are trained on, shown and in the network's size. */
function square(source, width, height) {
  const [wide, high] = [source.videoWidth || source.width, source.videoHeight || source.height];
  const side = Math.min(wide, high);
  const middle = [(wide - side) / 2, (high - side) / 2, side, side];
  view.drawImage(source, ...middle, 0, 0, canvas.width, canvas.height);
  const small = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  small.imageSmoothingQuality = "high";
  small.drawImage(source, ...middle, 0, 0, width, height);
  return small.getImageData(0, 0, width, height).data;
}

/* Pixels of four bytes as the input of the network; grey is that of ITU-R 601. */
function input({ pixels, width, height }, bytes) {
  const [channels, size, planar] = [pixels.mean.length, width * height, pixels.layout === "nchw"];
  const made = new Float32Array(channels * size);
  for (let i = 0; i < size; i++) {
    const [red, green, blue] = bytes.subarray(4 * i, 4 * i + 3);
    const values = channels === 3 ? [red, green, blue] : [(19595 * red + 38470 * green + 7471 * blue + 32768) >> 16];
    values.forEach((value, c) => (made[planar ? c * size + i : i * channels + c] = (value - pixels.mean[c]) * pixels.scale[c]));
  }
  return made;
}

function classify(network, source) {
  const image = input(network, square(source, network.width, network.height));
  const [scores, microseconds] = timed(network, image, MEASURED);
  const likely = softmax(scores);
  const best = likely.map((_, i) => i).sort((a, b) => likely[b] - likely[a] || a - b).slice(0, SHOWN);
  const place = document.getElementById("classes");
  place.replaceChildren();
  for (const index of best) {
    const row = element("li", "class", place);
    element("span", "name", row).textContent = network.names[index];
    element("div", "bar", element("div", "", row)).style.width = `${100 * likely[index]}%`;
  }
  document.getElementById("facts").textContent = `${network.title}: ${microseconds.toFixed(1)} µs a picture, ${network.size}`;
}

/* Shows what the camera sees until a picture is chosen; a function that ends it. */
async function camera(seen) {
  if (!navigator.mediaDevices) throw new Error("the browser gives no camera to this page: open it from a file or by https");
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true, playsInline: true });
  await video.play();
  let running = true;
  const next = () => {
    if (!running) return;
    seen(video);
    requestAnimationFrame(next);
  };
  next();
  return () => {
    running = false;
    stream.getTracks().forEach((track) => track.stop());
  };
}

async function main() {
  const [network] = await networksOfPage();
  let stop = () => {};
  document.getElementById("start").addEventListener("click", () => {
    stop();
    said("");
    camera((video) => classify(network, video)).then(
      (end) => (stop = end),
      (error) => said(`No camera: ${error.message}`),
    );
  });
  document.getElementById("file").addEventListener("change", async ({ target }) => {
    stop();
    said("");
    try {
      classify(network, await createImageBitmap(target.files[0]));
    } catch {
      said("This file is no picture that the browser reads.");
    }
  });
  document.documentElement.dataset.ready = "";
}

main().catch(failed);
