await drawCharts();
startThreshold();
startConfusions();
startPictures();
document.documentElement.dataset.ready = "yes";
