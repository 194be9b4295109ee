"""Reports: a run or a comparison as one HTML file that needs nothing else, readable on a phone, on paper and without script."""
