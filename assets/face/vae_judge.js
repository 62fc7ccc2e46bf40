// Views of the VAE lab that judge: what comes back, what is unusual, how small a picture gets.
(() => {
  const views = studio.vaeViews, { h } = studio;

  views.reconstruct = {
    title: "Reconstruct", text: "Squeeze a picture into a few numbers and back. Try one of your own.",
    learn: [["vae_reconstruct", "What am I seeing"], ["vae_elbo", "The loss behind it"], ["vae_trick", "The reparameterisation trick"]],
    build: ({ lab, about, chooser, failed, compare }) => {
      let wanted = {};
      const holder = h("div", { class: "vae-two even" }), words = h("p", { class: "num" }), trouble = h("div", {});
      const ask = async () => {
        const mine = (wanted = {});
        const answer = await lab.ask("reconstruct", one.args(), one.assets());
        if (mine !== wanted || failed(trouble, answer)) return;
        const [seen, made, heat] = answer.images;
        words.textContent = `${studio.number(about.size * about.size * 3)} values through ${studio.number(about.numbers)} numbers: PSNR ${answer.data.psnr_db} dB${answer.data.label ? `, seen as ${answer.data.label}` : ""}.`;
        studio.fill(holder, compare(seen, made, ["As it sees it", "What comes back"]), h("figure", {}, h("img", { class: "vae-picture large", src: heat, alt: "Where they differ" }), h("figcaption", { class: "small muted" }, "Where they differ")));
      };
      const one = chooser([["a", "Picture", 0]], ask);
      ask();
      return { root: h("div", { class: "vae-stack" }, h("div", { class: "vae-row" }, one.box, words), trouble, holder) };
    },
  };

  views.anomaly = {
    title: "Anomaly", text: "What the model has never seen, it cannot bring back: the error says how unusual a picture is, and where.",
    learn: [["vae_anomaly", "What am I seeing"]],
    build: ({ lab, chooser, slider, failed, image }) => {
      const holder = h("div", { class: "vae-two even" }), verdict = h("p", {}), scale = h("div", { class: "vae-scale" }), trouble = h("div", {});
      const ask = () => lab.drag("anomaly", { ...one.args(), quantile: quantile.value() }, (answer) => {
        if (failed(trouble, answer)) return;
        const { score, threshold, unusual, rank, quantiles } = answer.data;
        studio.fill(verdict, h("strong", {}, unusual ? "Unusual. " : "Usual. "), h("span", { class: "num" }, `Error ${studio.figure(score)}; the threshold is ${studio.figure(threshold)}. ${rank >= 1 ? "No held-out picture came back worse." : `${Math.round(100 * rank)} % of the held-out pictures came back better.`}`));
        const most = Math.max(score, ...quantiles) * 1.05, at = (value) => `${Math.min(100, (100 * value) / most)}%`;
        studio.fill(scale, quantiles.map((value) => h("i", { class: "tick", style: `left:${at(value)}` })), h("i", { class: "limit", style: `left:${at(threshold)}` }), h("i", { class: `mark${unusual ? " over" : ""}`, style: `left:${at(score)}` }),
          h("span", { class: "small muted" }, "0"), h("span", { class: "small muted num" }, `error ${studio.figure(most)}`));
        studio.fill(holder, h("figure", {}, image(answer.images[2], "Where the error is", "large"), h("figcaption", { class: "small muted" }, "Where the error is, over the picture in grey")), h("figure", {}, image(answer.images[1], "What comes back", "large"), h("figcaption", { class: "small muted" }, "What comes back")));
      }, one.assets());
      const one = chooser([["a", "Picture", 0]], () => ask());
      const quantile = slider("Threshold: share of held-out pictures that count as usual", { min: 0.5, max: 1, step: 0.01, value: 0.95, text: (v) => `${Math.round(100 * v)} %`, moved: () => ask() });
      ask();
      return { root: h("div", { class: "vae-stack" }, h("div", { class: "vae-row" }, one.box, quantile.box), trouble, verdict, scale, holder) };
    },
  };

  views.compress = {
    title: "File size", text: "The code as a file, against JPEG with the same number of bytes.",
    learn: [["vae_compress", "What am I seeing"]],
    build: ({ lab, chooser, slider, failed, compare }) => {
      const holder = h("div", { class: "vae-two even" }), words = h("p", { class: "num" }), trouble = h("div", {}), chart = h("div", {});
      let plot = null;
      const ask = () => lab.drag("compress", { ...one.args(), bits: bits.value() }, (answer) => {
        if (failed(trouble, answer)) return;
        const { data } = answer, { jpeg } = data;
        words.textContent = `${data.bytes} bytes of ${studio.number(data.raw_bytes)} at ${data.bits} bits a number: ${data.psnr_db} dB. JPEG ${jpeg.fits ? `with ${jpeg.scan_bytes} bytes` : `cannot get that small; at its smallest, ${jpeg.scan_bytes} bytes`}: ${jpeg.psnr_db} dB (its headers and tables, ${jpeg.file_bytes - jpeg.scan_bytes} bytes more, are not counted).`;
        plot = plot || studio.chart(chart);
        plot.draw({ x: "bytes", height: 220, lines: [{ name: "code, dB", points: data.rows.map((row) => [row.bytes, row.psnr_db]), dots: true, label: true }, { name: "JPEG, dB", points: data.curve.filter(([bytes], k) => k < 3 || bytes <= 10 * data.bytes), dots: true, label: true }] });
        studio.fill(holder, compare(answer.images[1], answer.images[2], [`Code, ${data.psnr_db} dB`, `JPEG, ${jpeg.psnr_db} dB`]), h("figure", {}, h("img", { class: "vae-picture large", src: answer.images[0], alt: "The picture itself" }), h("figcaption", { class: "small muted" }, "The picture itself")));
      }, one.assets());
      const one = chooser([["a", "Picture", 0]], () => ask());
      const bits = slider("Bits per number", { min: 1, max: 12, step: 1, value: 6, moved: () => ask() });
      ask();
      return { root: h("div", { class: "vae-stack" }, h("div", { class: "vae-row" }, one.box, bits.box), trouble, words, holder, chart), shown: () => plot?.draw() };
    },
  };
})();
