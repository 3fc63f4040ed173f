// The confusion matrix.

function drawConfusion() {}
